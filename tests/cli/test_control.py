"""The client of a mount's control socket, against a real socket."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from b2mount.cli.control import SOCKET_ATTRIBUTE, ask, ask_once, locate
from b2mount.cli.report import Failure
from tests.cli.mounts import spoken_mount


def test_a_request_and_its_answers_go_through(tmp_path: Path) -> None:
    answers: list[dict[str, Any] | bytes] = [
        {"pending_files": 2},
        {"pending_files": 1},
        {"done": True, "ok": True},
    ]
    with spoken_mount(tmp_path / "mnt", tmp_path / "control", {"flush": answers}) as mount:
        assert list(ask(mount.mountpoint, {"op": "flush", "timeout": None})) == answers
    assert mount.requests == [{"op": "flush", "timeout": None}]


def test_what_follows_the_last_answer_is_not_read(tmp_path: Path) -> None:
    with spoken_mount(
        tmp_path / "mnt", tmp_path / "control", {"status": [{"done": True, "status": {"pid": 1}}, b"junk"]}
    ) as mount:
        assert ask_once(mount.mountpoint, {"op": "status"})["status"] == {"pid": 1}


def test_a_socket_whose_path_is_longer_than_an_address_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with spoken_mount(tmp_path / "mnt", deep / "control", {"status": [{"done": True}]}) as mount:
        assert ask_once(mount.mountpoint, {"op": "status"}) == {"done": True}


def test_an_error_of_the_mount_is_passed_on_with_its_hint(tmp_path: Path) -> None:
    refusal = {"done": True, "error": "there is no such directory", "hint": "look above"}
    with (
        spoken_mount(tmp_path / "mnt", tmp_path / "control", {"refresh": [refusal]}) as mount,
        pytest.raises(Failure, match=r"^there is no such directory$") as caught,
    ):
        ask_once(mount.mountpoint, {"op": "refresh", "path": "x"})
    assert caught.value.hints == ("look above",)


@pytest.mark.parametrize("answers", [[], [{"pending_files": 1}], [b'{"done": tr']])
def test_a_mount_that_ends_meanwhile_is_told_from_one_that_is_done(
    tmp_path: Path, answers: list[dict[str, int] | bytes]
) -> None:
    with (
        spoken_mount(tmp_path / "mnt", tmp_path / "control", {"flush": answers}) as mount,
        pytest.raises(Failure, match=r"/mnt ended while it was asked$"),
    ):
        list(ask(mount.mountpoint, {"op": "flush"}))


def test_a_plain_directory_is_no_mount(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=f"^{tmp_path} is not a b2mount mount$"):
        ask_once(tmp_path, {"op": "status"})


def test_a_directory_that_is_not_there_is_no_mount(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=f"^{tmp_path}/none does not exist$"):
        ask_once(tmp_path / "none", {"op": "status"})


def test_a_socket_that_nobody_serves_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
    os.setxattr(tmp_path, SOCKET_ATTRIBUTE, os.fsencode(tmp_path / "control"))
    with pytest.raises(
        Failure,
        match=rf"^the mount at {tmp_path} cannot be asked: Connection refused \({tmp_path}/control\)$",
    ):
        ask_once(tmp_path, {"op": "status"})


def test_a_path_is_located_in_the_mount_that_holds_it(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    (root / "a" / "b").mkdir(parents=True)
    os.setxattr(root, SOCKET_ATTRIBUTE, b"/run/one")
    assert locate(root) == (root, "")
    assert locate(root / "a" / "b") == (root, "a/b")
    assert locate(root / "a" / "not" / "yet" / "there") == (root, "a/not/yet/there")


def test_a_mount_whose_every_directory_tells_of_the_socket_is_located_by_its_root(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    (root / "a" / "b").mkdir(parents=True)
    for directory in (root, root / "a", root / "a" / "b"):
        os.setxattr(directory, SOCKET_ATTRIBUTE, b"/run/one")
    os.setxattr(tmp_path, SOCKET_ATTRIBUTE, b"/run/another")
    assert locate(root / "a" / "b") == (root, "a/b")


def test_a_path_outside_every_mount_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="is not inside a b2mount mount"):
        locate(tmp_path / "x")
