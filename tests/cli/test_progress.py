"""The line that somebody sees who waits, on terminals of different kinds."""

import fcntl
import os
import pty
import struct
import sys
import termios

import pytest

from b2mount.cli import progress
from b2mount.cli.progress import Progress


def shown(monkeypatch: pytest.MonkeyPatch, term: str, *, columns: int) -> bytes:
    """Return what a terminal of so many columns is sent while two files wait."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 20, columns, 0, 0))
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    with os.fdopen(other, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("sending", "not yet in B2") as line:
            line.show(2, 1 << 20)
            line.show(1, 1 << 20)
        said = os.read(terminal, 4096)
    os.close(terminal)
    return said


def test_a_line_is_no_longer_than_the_terminal_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, "xterm", columns=24).split(b"\r\x1b[K") == [
        b"",
        b"sending: 2 files, 1.0 M",
        b"sending: 1 file, 1.0 Mi",
        b"",
    ]


def test_a_terminal_that_takes_nothing_back_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, "dumb", columns=24)
    assert said == b"b2mount: sending: 2 files, 1.0 MiB not yet in B2\r\n"
