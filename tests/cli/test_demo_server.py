"""The demo's emulator and what is put in it: a process that is found again, and a key that opens half."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2mount.cli.demo_bucket import OTHER_TENANT, TENANT, make_samples, stock_bucket
from b2mount.cli.demo_server import Server, find_server, start_server, stop_server
from b2mount.cli.report import Failure
from tests.support.emulator import Emulator


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo"
    stop_server(tmp_path / "demo")


def reap(server: Server) -> None:
    """Take the ended emulator off the process table: it is a child of this process here."""
    os.waitpid(server.pid, 0)


def test_a_started_server_is_found_again_and_stopped(directory: Path) -> None:
    assert find_server(directory) is None
    server = start_server(directory)
    assert find_server(directory) == server
    assert stop_server(directory)
    reap(server)
    assert find_server(directory) is None
    assert not stop_server(directory)


def test_a_server_that_was_killed_comes_back_on_its_port(directory: Path) -> None:
    first = start_server(directory)
    os.kill(first.pid, signal.SIGKILL)
    reap(first)
    assert find_server(directory) is None
    second = start_server(directory)
    assert second.url == first.url
    assert stop_server(directory)
    reap(second)


def test_a_port_that_is_taken_meanwhile_is_no_obstacle(directory: Path, tmp_path: Path) -> None:
    first = start_server(directory)
    note = (directory / "server.json").read_text()
    assert stop_server(directory)
    reap(first)
    (directory / "server.json").write_text(note)
    port = first.url.rpartition(":")[2]
    with Emulator(tmp_path / "other", arguments=["--listen", f"127.0.0.1:{port}"]):
        second = start_server(directory)
        assert second.url != first.url
        assert stop_server(directory)
    reap(second)


def test_a_process_of_the_same_number_is_left_alone(directory: Path) -> None:
    directory.mkdir()
    note = {"pid": os.getpid(), "url": "http://127.0.0.1:9", "master_key_file": "x"}
    (directory / "server.json").write_text(json.dumps(note))
    assert not stop_server(directory)  # or this test would have ended here
    assert find_server(directory) is None


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"pid": "x"}'])
def test_a_broken_note_is_no_server(directory: Path, note: str) -> None:
    directory.mkdir()
    (directory / "server.json").write_text(note)
    assert find_server(directory) is None
    assert not stop_server(directory)


def test_a_server_that_cannot_start_tells_why(directory: Path) -> None:
    directory.mkdir()
    (directory / "data").write_text("not a directory")
    with pytest.raises(Failure, match=r"^the emulator did not start: ."):
        start_server(directory)


def test_the_samples_are_of_every_kind() -> None:
    samples = {sample.name: sample for sample in make_samples()}
    picture = samples[f"{TENANT}pictures/2026/sunrise.ppm"].content
    assert picture.startswith(b"P6 1024 1024 255\n")
    assert len(picture) == len(b"P6 1024 1024 255\n") + 3 * 1024 * 1024
    assert samples[f"{TENANT}empty/.bzEmpty"].content == b""
    assert any(not name.isascii() for name in samples)
    assert any(name.startswith(OTHER_TENANT) for name in samples)


def test_the_key_opens_the_first_tenant_alone(emulator: Emulator) -> None:
    stocked = stock_bucket(emulator.url, emulator.data / "master-key.json")
    names = [row["fileName"] for row in emulator.list_names(stocked.bucket)]
    assert sorted(names) == sorted(sample.name for sample in make_samples())
    token = emulator.token_of(stocked.key_id, stocked.key)
    bucket_id = emulator.bucket_id(stocked.bucket)
    status, page = emulator.call("b2_list_file_names", {"bucketId": bucket_id, "prefix": TENANT}, token)
    assert status == 200
    assert {row["fileName"] for row in page["files"]} == {name for name in names if name.startswith(TENANT)}
    assert (
        emulator.call("b2_list_file_names", {"bucketId": bucket_id, "prefix": OTHER_TENANT}, token)[0] == 401
    )
