"""The messages that the troubleshooting page quotes are those that the program and the system print."""

import ast
import errno
import os
import re
from pathlib import Path

import pytest

from b2mount.core.errors import ERRNO

PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)
ERRNOS = re.findall(r"^\| (E[A-Z]+) \| `([^`]+)` \|", PAGE, re.MULTILINE)
PLACEHOLDER = re.compile(r"'?\b(?:[A-Z]{3,}|N changes|N)\b'?(?![_/])|…")


def said() -> str:
    """Return every text of the program; what is put into one is left out."""
    texts = []
    for path in (PROJECT / "b2mount").rglob("*.py"):
        if path.is_relative_to(PROJECT / "b2mount" / "emulator"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\0".join(texts)


SAID = said()


def pieces(message: str) -> list[str]:
    """Split a quoted message where the program puts something in."""
    kept = message.replace("/dev/fuse", "…")
    return [piece for part in PLACEHOLDER.split(kept) if len(piece := part.strip(" ()';:,")) > 2]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_that_is_quoted_is_still_said(message: str) -> None:
    wanted = pieces(message)
    assert wanted
    assert [piece for piece in wanted if piece not in SAID] == []


@pytest.mark.parametrize(("name", "text"), ERRNOS)
def test_every_errno_has_the_text_that_the_system_gives_it(name: str, text: str) -> None:
    assert os.strerror(getattr(errno, name)) == text


def test_each_errno_that_is_hard_to_guess_is_explained() -> None:
    plain = {"ENOENT", "EEXIST", "EISDIR", "ENOTDIR", "ENOTEMPTY", "EINVAL", "EFBIG", "EBADF"}
    plain |= {"EOPNOTSUPP", "ENODATA"}
    mapped = {errno.errorcode[number] for number in ERRNO.values()} | {"ENOTCONN"}
    named = {"EOPNOTSUPP" if name == "ENOTSUP" else name for name in mapped}
    assert named - plain == {name for name, _ in ERRNOS}


def test_the_page_quotes_messages() -> None:
    assert len(MESSAGES) > 30
    assert len(ERRNOS) > 10
