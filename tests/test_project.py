"""What the project says about itself is so: dependencies have reasons, commands in the README exist."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
META = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
DEVELOPMENT = (PROJECT / "docs" / "development.md").read_text()
README = (PROJECT / "README.md").read_text()
MAKEFILE = (PROJECT / "Makefile").read_text()

SOURCES = set((PROJECT / "b2mount").rglob("*.py"))
EMULATOR = {path for path in SOURCES if path.is_relative_to(PROJECT / "b2mount" / "emulator")}
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md"))]

# Used without an import: uvicorn is told their names, or imports them itself.
USED_BY_NAME = {"httptools", "uvloop"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements}


RUNTIME = names(META["dependencies"])
EXTRAS = {extra: names(needed) - {"b2mount"} for extra, needed in META["optional-dependencies"].items()}
EVERYTHING = RUNTIME.union(*EXTRAS.values())


def third_party_imports(paths: Iterable[Path]) -> set[str]:
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"b2mount"}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def commands(page: str) -> list[str]:
    """Return the shell lines of a page: the indented ones and those in code blocks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", page, re.MULTILINE)
    return [line.strip() for line in "\n".join(fenced).splitlines() + indented if line.strip()]


@pytest.mark.parametrize("package", sorted(EVERYTHING))
def test_every_dependency_has_its_reason(package: str) -> None:
    assert re.search(rf"^\| {re.escape(package)} \| \S.*\|$", DEVELOPMENT, re.MULTILINE)


def test_what_the_client_imports_is_declared_and_what_is_declared_is_imported() -> None:
    assert third_party_imports(SOURCES - EMULATOR) == RUNTIME


def test_what_the_emulator_imports_is_declared_and_what_is_declared_is_used() -> None:
    assert third_party_imports(EMULATOR) | USED_BY_NAME == EXTRAS["emulator"] | {"click"}


def test_every_folder_of_tests_is_explained() -> None:
    folders = {path.parent for path in (PROJECT / "tests").glob("*/*.py")} | {PROJECT / "tests" / "fresh"}
    named = set(re.findall(r"`tests/(\w+)/`", DEVELOPMENT))
    assert {folder.name for folder in folders} - {"support"} == named


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_two_commands_of_the_readme_are_there_and_exist(command: str) -> None:
    assert command in commands(README)
    assert command.removeprefix("make ") in make_targets()


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_a_page_names_exists(page: str) -> None:
    named = re.findall(r"\bmake ([a-z][a-z-]*)\b", "\n".join(commands((PROJECT / page).read_text())))
    assert set(named) <= make_targets()


def test_every_make_target_is_in_makes_own_help() -> None:
    helped = set(re.findall(r"@echo 'make ([a-z-]+)", MAKEFILE))
    assert helped == make_targets() - {"help"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_of_the_project_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (PROJECT / page).read_text())
    assert [target for target in targets if not (PROJECT / page).parent.joinpath(target).exists()] == []
