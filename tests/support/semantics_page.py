"""The tables of docs/semantics.md that come from the code; run as a module, it renews them."""

import errno
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from b2mount.core.access import table_rows
from b2mount.core.errors import ERRNO

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"


def rights_table() -> str:
    """Return the table of operations, the rights they need, and the errno where one is missing."""
    rows = ["| operation | needs, else |", "| --- | --- |"]
    for row in table_rows():
        pairs = [f"{need}, else {number}" for need, number in zip(row.needs, row.errno_names, strict=False)]
        alone = f"no key can: {row.errno_names[0]}" if row.errno_names else "nothing"
        rows.append(f"| {row.operation} | {'; '.join(pairs) or alone} |")
    return "\n".join(rows)


def errno_table() -> str:
    """Return the table of errnos, each with what it can mean."""
    meanings: defaultdict[str, list[str]] = defaultdict(list)
    for error, number in ERRNO.items():
        said = " ".join((error.__doc__ or "").split("\n\n")[0].split())
        name = "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode[number]  # of two names
        meanings[name].append(said)
    rows = ["| errno | means here |", "| --- | --- |"]
    rows += [f"| {name} | {' Or: '.join(said)} |" for name, said in sorted(meanings.items())]
    return "\n".join(rows)


TABLES = {"rights": rights_table, "errnos": errno_table}


def generated(page: str) -> dict[str, str]:
    """Return what the page has between its marks, by the name of the table."""
    found = re.findall(r"<!-- begin (\w+) -->\n\n?(.*?)\n\n?<!-- end \1 -->", page, re.DOTALL)
    return {name: text.strip() for name, text in found}


def renewed(page: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """Return the page with every table as the code has it."""
    for name, table in tables.items():
        between = f"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        page = re.sub(between, rf"\1\n{table()}\n\n\2", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
