"""docs/semantics.md promises nothing without a test, and no promise is tested without standing there.

Behind each promise stands `<!-- test: FILE::NAME -->`: test NAME in tests/mount/test_semantics_FILE.py, or in
the file of that path.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.support.semantics_page import PAGE, TABLES, generated

ROOT = Path(__file__).parents[1]
TEXT = PAGE.read_text()
RENEW = "run: python -m tests.support.semantics_page"


def names_of_tests(path: Path) -> set[str]:
    """Return the names of all tests in a file, without importing it."""
    found = ast.walk(ast.parse(path.read_text()))
    functions = (node for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def file_of(short: str) -> Path:
    """Return the file that a mark means."""
    return ROOT / (short if "/" in short else f"tests/mount/test_semantics_{short}.py")


def named() -> set[tuple[Path, str]]:
    """Return every test that the page names."""
    marks = [mark for text in re.findall(r"<!-- test: (.*?) -->", TEXT, re.DOTALL) for mark in text.split()]
    pairs = [mark.split("::") for mark in marks]
    return {(file_of(short), name) for short, name in pairs}


def promises() -> list[str]:
    """Return every list item of the page, outside the sections that say that they promise nothing."""
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    bound = [section for section in sections if "<!-- no promises -->" not in section]
    return [
        item for section in bound for item in re.findall(r"^- (?:.+\n(?:  .*\n)*)", section, re.MULTILINE)
    ]


def test_every_test_that_the_page_names_exists() -> None:
    missing = {
        (path.name, name) for path, name in named() if not path.exists() or name not in names_of_tests(path)
    }
    assert missing == set()


def test_every_promise_that_is_tested_stands_on_the_page() -> None:
    files = (ROOT / "tests" / "mount").glob("test_semantics_*.py")
    tested = {(path, name) for path in files for name in names_of_tests(path)}
    assert {(path.name, name) for path, name in tested - named()} == set()


def test_every_promise_on_the_page_names_its_test() -> None:
    assert len(promises()) > 50
    assert [item for item in promises() if "<!-- test: " not in item] == []


@pytest.mark.parametrize("table", TABLES)
def test_the_pages_tables_are_the_codes(table: str) -> None:
    assert generated(TEXT)[table] == TABLES[table](), RENEW
