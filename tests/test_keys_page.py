"""docs/keys.md: its tables are the code's, and each promise names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

from b2mount.core.grant import B2_NAMES
from b2mount.core.presets import PRESETS
from tests.support.keys_page import PAGE, REMARKS, TABLES
from tests.support.semantics_page import generated

TEXT = PAGE.read_text()
PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", list(TABLES))
def test_each_table_is_the_codes(name: str) -> None:
    assert generated(TEXT)[name] == TABLES[name](), "run: python -m tests.support.keys_page"


def test_every_capability_has_a_row_that_says_something() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in TABLES["capabilities"]().splitlines()[2:]}
    assert set(rows) == set(B2_NAMES.values())
    assert all(row.split(" | ")[1].strip() for row in rows.values())
    assert set(REMARKS) <= set(rows)


def test_every_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", TEXT)
    assert len(named) > 15
    for path, test in named:
        tree = ast.parse((PROJECT / path).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, test)


def test_every_preset_has_its_example() -> None:
    assert all(f"--preset {name}" in TEXT for name in PRESETS)
