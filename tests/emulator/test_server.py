"""The program: start and stop, what a restart and a kill leave, TLS, memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.emulator import Emulator

RUN = [sys.executable, "-m", "b2mount.emulator"]


def test_it_starts_and_stops_cleanly_and_keeps_its_secrets(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RUN, "--data", str(tmp_path), "--log-level", "debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = process.stdout.readline()
    master_file = tmp_path / "master-key.json"
    assert "http://127.0.0.1:" in ready
    assert str(master_file) in ready
    assert stat.S_IMODE(master_file.stat().st_mode) == 0o600
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0
    assert json.loads(master_file.read_text())["applicationKey"] not in ready + out + err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_in_the_middle_of_requests(tmp_path: Path, number: signal.Signals) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.create_bucket("stopping")
        emulator.seed("stopping", [{"name": "huge", "size": 10**12}])
        emulator.fault(call="b2_list_keys", kind="stall", seconds=600)
        token = emulator.master_token()
        failed: list[Exception] = []

        def ask(path: str) -> None:
            try:
                connection = emulator.connect()
                connection.request("GET", path, headers={"Authorization": token})
                connection.getresponse().read()
            except Exception as error:
                failed.append(error)

        threads = [
            threading.Thread(target=ask, args=(path,))
            for path in ("/b2api/v4/b2_list_keys", "/file/stopping/huge")
        ]
        for thread in threads:
            thread.start()
        while len(emulator.control("GET", "busy")["entries"]) < 2:
            pass
        assert emulator.stop(number) == 0
        for thread in threads:
            thread.join(120)
        assert len(failed) == 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=240)


def test_it_refuses_an_address_that_others_can_reach(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path), "--listen", "0.0.0.0:0")
    assert done.returncode != 0
    assert "--allow-remote" in done.stderr
    assert not (tmp_path / "master-key.json").exists()


def test_it_says_what_is_wrong_when_it_cannot_start(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        again = run("--data", str(tmp_path))
        assert again.returncode != 0
        assert "another emulator" in again.stderr
        taken = run("--data", str(tmp_path / "other"), "--listen", emulator.url.removeprefix("http://"))
        assert taken.returncode != 0
        assert "in use" in taken.stderr
        assert "Traceback" not in again.stderr + taken.stderr
    assert run("--data", str(tmp_path), "--listen", "nonsense").returncode == 2
    assert run("--data", str(tmp_path), "--tls-cert", str(tmp_path / "lock")).returncode == 2


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        bucket_id = emulator.create_bucket("restarted", bucketInfo={"k": "v"})
        emulator.settings(min_part_size=10)
        row = emulator.upload("restarted", "name", b"content", {"i": "j"})
        emulator.upload_large("restarted", "large", [b"x" * 10, b"y"])
        emulator.hide("restarted", "name")
        emulator.seed("restarted", [{"name": "seeded", "size": 1000}])
        start = {"bucketId": bucket_id, "fileName": "unfinished", "contentType": "a/b"}
        unfinished = emulator.ask("b2_start_large_file", start)["fileId"]
        key = emulator.create_key(["listFiles"], ["restarted"])
        token = emulator.token_of(*key)
        before, url, account = emulator.list_versions("restarted"), emulator.url, emulator.account_id
        newest = emulator.upload("restarted", "gone", b"")
        emulator.ask("b2_delete_file_version", {"fileName": "gone", "fileId": newest["fileId"]})
        emulator.restart()
        assert (emulator.url, emulator.account_id) == (url, account)
        assert emulator.list_versions("restarted") == before
        assert emulator.download_by_id(row["fileId"]) == b"content"
        assert emulator.download("restarted", "large") == b"x" * 10 + b"y"
        assert emulator.call("b2_list_file_names", {"bucketId": bucket_id}, token)[0] == 200
        assert emulator.authorize(*key)[0] == 200
        assert emulator.settings()["min_part_size"] == 10
        assert emulator.call("b2_get_upload_part_url", {"fileId": unfinished})[0] == 200
        again = emulator.upload("restarted", "gone", b"")
        assert again["fileId"][30:46] != newest["fileId"][30:46]  # a number is never given twice


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.create_bucket("killed")
        acknowledged: list[set[str]] = [set(), set(), set()]

        def write(thread: int) -> None:
            number = 0
            while True:
                name = f"{thread}/{number}"
                try:
                    emulator.upload("killed", name, name.encode() * 1000)
                except (OSError, http.client.HTTPException):
                    return
                acknowledged[thread].add(name)
                number += 1

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        while min(map(len, acknowledged)) < 30:
            pass
        emulator.kill()
        for thread in threads:
            thread.join(120)
        emulator.start()
        listed = {row["fileName"] for row in emulator.list_names("killed")}
        for names in acknowledged:
            assert names <= listed
        for name in listed:
            assert emulator.download("killed", name) == name.encode() * 1000


def test_it_serves_tls(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    arguments = ["--tls-cert", str(cert), "--tls-key", str(key)]
    with Emulator(tmp_path / "data", arguments=arguments, cafile=cert) as emulator:
        assert emulator.url.startswith("https://")
        emulator.create_bucket("secure")
        data = os.urandom(3_000_000)
        emulator.upload("secure", "name", data)
        assert emulator.download("secure", "name") == data
        answer = emulator.authorize(emulator.master_key_id, emulator.master_key)[1]
        assert answer["apiInfo"]["storageApi"]["apiUrl"] == emulator.url
        emulator.fault(call="b2_download_file_by_name", kind="truncate", after_bytes=1000)
        with pytest.raises((http.client.IncompleteRead, OSError)):
            emulator.download("secure", "name")


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    size, block = 300_000_000, bytes(1 << 20)
    with Emulator(tmp_path) as emulator:
        emulator.create_bucket("memory")
        target = emulator.ask("b2_get_upload_url", {"bucketId": emulator.bucket_id("memory")})
        connection = emulator.connect()
        connection.putrequest("POST", target["uploadUrl"].removeprefix(emulator.url))
        for name, value in {
            "Authorization": target["authorizationToken"],
            "X-Bz-File-Name": "big",
            "Content-Type": "a/b",
            "Content-Length": str(size),
            "X-Bz-Content-Sha1": "do_not_verify",
        }.items():
            connection.putheader(name, value)
        connection.endheaders()
        left = size
        while left:
            connection.send(block[:left])
            left -= min(left, len(block))
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["contentLength"]) == (200, size)
        headers = {"Authorization": emulator.master_token()}
        connection.request("GET", "/file/memory/big", headers=headers)
        response = connection.getresponse()
        # A reader that never reads must not make the server hold the file either.
        with emulator.connect_raw() as idle:
            token = emulator.master_token()
            idle.sendall(
                f"GET /file/memory/big HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode()
            )
            got = 0
            while chunk := response.read(1 << 20):
                got += len(chunk)
            assert got == size
            idle.shutdown(socket.SHUT_RDWR)
        connection.close()
        assert emulator.peak_memory_bytes() < 150_000_000


def test_deleting_frees_the_disk_once_nothing_shares_the_content(tmp_path: Path) -> None:
    def blobs() -> int:
        return sum(1 for path in (tmp_path / "content").rglob("*") if path.is_file())

    with Emulator(tmp_path) as emulator:
        emulator.create_bucket("sharing")
        emulator.settings(min_part_size=10)
        one = emulator.upload("sharing", "one", b"content")
        two = emulator.ask("b2_copy_file", {"sourceFileId": one["fileId"], "fileName": "two"})
        large = emulator.upload_large("sharing", "large", [b"x" * 10, b"y"])
        assert blobs() == 3
        emulator.ask("b2_delete_file_version", {"fileName": "one", "fileId": one["fileId"]})
        assert blobs() == 3
        emulator.ask("b2_delete_file_version", {"fileName": "two", "fileId": two["fileId"]})
        assert blobs() == 2
        emulator.ask("b2_delete_file_version", {"fileName": "large", "fileId": large["fileId"]})
        assert blobs() == 0
