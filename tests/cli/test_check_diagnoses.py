"""Every diagnosis that `b2mount check` makes of wrong credentials, by its exact words."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.running import Shell
from tests.support.emulator import Emulator

READ_WRITE = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"]
KEY_ID = "0018f5033aa08600000000001"
KEY = "K001" + "x" * 27


@contextlib.contextmanager
def another_server(
    behind: str | None = None, *, clock_seconds: float = 0, answer: tuple[int, str] = (403, "")
) -> Iterator[str]:
    """Serve *answer*, or what the server *behind* answers, under a clock of its own; give the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            status, body = answer[0], answer[1].encode()
            if behind is not None:
                status, body = self.pass_on(behind, sent)
            self.send_response_only(status)
            self.send_header("Date", formatdate(time.time() + clock_seconds, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def pass_on(self, behind: str, sent: bytes) -> tuple[int, bytes]:
            headers = {"Authorization": self.headers["Authorization"], "Content-Type": "application/json"}
            request = urllib.request.Request(behind + self.path, sent or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=240) as reply:
                    return reply.status, reply.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def log_message(self, format: str, *words: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def check(shell: Shell, endpoint: str, pair: tuple[str, str], *words: str) -> tuple[int, list[str]]:
    env = {"B2_APPLICATION_KEY_ID": pair[0], "B2_APPLICATION_KEY": pair[1], "B2MOUNT_ENDPOINT": endpoint}
    done = shell.run("check", "--io-timeout", "20s", *words, env=env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()


def test_a_key_of_elsewhere_is_told_where_it_was_asked(shell: Shell, emulator: Emulator) -> None:
    status, lines = check(shell, emulator.url, (KEY_ID, KEY))
    assert status == 3
    assert lines[1:3] == [
        "b2mount: hint: it seems that the key was asked for at 127.0.0.1 on this machine, not at Backblaze, "
        "and is not known there",
        "b2mount: hint: leave --endpoint and B2MOUNT_ENDPOINT out: Backblaze has one address for all keys",
    ]


@pytest.mark.parametrize(
    ("pair", "suspicion", "advice"),
    [
        (
            ("8f5033aa0860", KEY),
            "an account ID is used as the key ID of an application key",
            "use the keyID (25 characters) shown with the application key; "
            "the account ID goes with the master key only",
        ),
        (
            (KEY_ID, "0" * 42),
            "the key ID of an application key is used with the master application key",
            "use the application key's own secret, or the account ID with the master key",
        ),
        (
            (KEY, KEY_ID),
            "the key ID and the application key are swapped",
            "the key ID is the hexadecimal number, the application key is the secret",
        ),
        (
            (KEY_ID, KEY[:-4]),
            "the application key has 27 characters where B2's have 31: its end is missing",
            "B2 shows an application key once, when it is made; if it is lost, create another",
        ),
        (
            (KEY_ID, KEY + KEY),
            "the application key has 62 characters where B2's have 31: something was added to it",
            "B2 shows an application key once, when it is made; if it is lost, create another",
        ),
        (
            (KEY_ID + "00", KEY),
            "the key ID has 27 characters where B2's have 25: something was added to it",
            "copy the keyID (25 characters) shown with the application key",
        ),
        (
            (KEY_ID[:20], KEY),
            "the key ID has 20 characters where B2's have 25: its end is missing",
            "copy the keyID (25 characters) shown with the application key",
        ),
        (
            (KEY_ID, "K002" + "x" * 27),
            "the key ID and the application key come from different keys",
            'the key ID begins with 001, so its secret begins with "K001"',
        ),
    ],
)
def test_a_mistake_of_shape_is_named_with_what_to_do(
    shell: Shell, emulator: Emulator, pair: tuple[str, str], suspicion: str, advice: str
) -> None:
    status, lines = check(shell, emulator.url, pair)
    assert status == 3
    assert lines[0].startswith("b2mount: error: B2 does not accept the key (b2_authorize_account: 401")
    assert lines[1:3] == [f"b2mount: hint: it seems that {suspicion}", f"b2mount: hint: {advice}"]


def test_a_well_formed_key_that_is_refused_may_be_gone_or_copied_wrong(
    shell: Shell, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    wrong = key[:-1] + ("x" if key[-1] != "x" else "y")
    status, lines = check(shell, emulator.url, (key_id, wrong))
    assert status == 3
    assert lines[3:5] == [
        "b2mount: hint: the key may have expired or been deleted: if so, make a new one",
        "b2mount: hint: or its secret is wrong: copy the key again; B2 shows it once, when the key is made",
    ]


def test_a_key_of_wrong_shape_is_told_of_that_alone(shell: Shell, emulator: Emulator) -> None:
    _, lines = check(shell, emulator.url, (KEY_ID, KEY[:-4]))
    assert not any("may have expired" in line for line in lines)


def test_an_s3_address_is_recognised() -> None:
    from b2mount.core.endpoints import remarks_on_endpoint

    (remark,) = remarks_on_endpoint("https://s3.us-west-001.backblazeb2.com", KEY_ID)
    assert remark.message == (
        "s3.us-west-001.backblazeb2.com is an address of the S3 API, and b2mount speaks B2's native API"
    )


def test_an_address_of_another_region_is_recognised() -> None:
    from b2mount.core.endpoints import remarks_on_endpoint

    (remark,) = remarks_on_endpoint("https://api005.backblazeb2.com", KEY_ID)
    assert remark.message == "the key is of cluster 001, and api005.backblazeb2.com is of cluster 005"
    assert remarks_on_endpoint("https://api001.backblazeb2.com", KEY_ID) == []
    assert remarks_on_endpoint("https://api.backblazeb2.com", KEY_ID) == []
    assert remarks_on_endpoint(None, KEY_ID) == []


def test_a_server_that_is_none_of_b2s_is_named(shell: Shell) -> None:
    with another_server(answer=(404, "<html>nothing here</html>")) as url:
        status, lines = check(shell, url, (KEY_ID, KEY))
    assert status == 1
    assert lines[0].startswith("b2mount: error: B2 does not know the address that was asked")
    assert lines[1] == (
        "b2mount: hint: it may be that the key was asked for at 127.0.0.1 on this machine, not at Backblaze, "
        "and is not known there"
    )


@pytest.mark.parametrize("verb", ["check", "mount"])
def test_an_endpoint_where_nothing_listens_is_asked_after(shell: Shell, verb: str) -> None:
    env = {
        "B2_APPLICATION_KEY_ID": KEY_ID,
        "B2_APPLICATION_KEY": KEY,
        "B2MOUNT_ENDPOINT": "http://127.0.0.1:9",
    }
    where = [shell.home] if verb == "mount" else []
    done = shell.run(verb, "--io-timeout", "5s", *where, env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-3:] == [
        "b2mount: error: cannot connect (b2_authorize_account: 127.0.0.1:9: Connection refused)",
        "b2mount: hint: is the endpoint right (--endpoint, $B2MOUNT_ENDPOINT), and does a server listen at "
        "127.0.0.1:9?",
        "b2mount: hint: without an endpoint b2mount asks Backblaze",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(3600, "60 minutes behind"), (-7200, "120 minutes ahead of")])
def test_a_wrong_clock_is_told_where_the_key_works(
    shell: Shell, emulator: Emulator, bucket: str, seconds: int, words: str
) -> None:
    key = emulator.create_key(READ_WRITE, [bucket])
    with another_server(emulator.url, clock_seconds=seconds) as url:
        status, lines = check(shell, url, key)
    assert status == 0
    assert f"b2mount: warning: this machine's clock is {words} B2's" in lines
    assert "b2mount: hint: set it right: modification times and the end of keys go by it" in lines


def test_a_wrong_clock_is_told_where_the_key_is_refused(shell: Shell, emulator: Emulator) -> None:
    with another_server(emulator.url, clock_seconds=3600) as url:
        status, lines = check(shell, url, (KEY_ID, KEY))
    assert status == 3
    assert any("this machine's clock is off by -60 minutes" in line for line in lines)


def test_the_names_of_restic_work_and_are_told_of(shell: Shell, emulator: Emulator, bucket: str) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    env = {"B2_ACCOUNT_ID": key_id, "B2_ACCOUNT_KEY": key, "B2MOUNT_ENDPOINT": emulator.url}
    done = shell.run("check", env=env)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "b2mount: warning: the key was found under the names of restic and rclone users, "
        "B2_ACCOUNT_ID and B2_ACCOUNT_KEY",
        "b2mount: hint: that works; the b2 tool's names, which come first, are B2_APPLICATION_KEY_ID "
        "and B2_APPLICATION_KEY",
    ]


def test_two_pairs_of_variables_for_two_keys_are_told_of(
    shell: Shell, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    env = {"B2_APPLICATION_KEY_ID": key_id, "B2_APPLICATION_KEY": key, "B2MOUNT_ENDPOINT": emulator.url}
    done = shell.run("check", env={**env, "B2_ACCOUNT_ID": "8f5033aa0860", "B2_ACCOUNT_KEY": KEY})
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "b2mount: warning: B2_ACCOUNT_ID is set too, to another key ID, and goes unused: "
        "B2_APPLICATION_KEY_ID comes first"
    ]


def test_variables_of_rclone_alone_are_pointed_out(shell: Shell) -> None:
    env = {"RCLONE_B2_ACCOUNT": KEY_ID, "RCLONE_B2_KEY": KEY}
    done = shell.run("check", "--endpoint", "http://127.0.0.1:9", env=env)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        "b2mount: hint: RCLONE_B2_ACCOUNT and RCLONE_B2_KEY are rclone's alone; "
        "the same values go under the names above"
    )


@pytest.mark.parametrize(
    ("env", "status", "error"),
    [
        ({}, 3, "no credentials found"),
        (
            {"B2_APPLICATION_KEY_ID": KEY_ID},
            3,
            "the environment has B2_APPLICATION_KEY_ID but no B2_APPLICATION_KEY",
        ),
        (
            {
                "B2_APPLICATION_KEY_ID": KEY_ID,
                "B2_APPLICATION_KEY": KEY,
                "B2MOUNT_ENDPOINT": "http://127.0.0.1:9",
            },
            1,
            "cannot connect",
        ),
    ],
)
def test_whatever_goes_wrong_is_json_for_scripts(
    shell: Shell, env: dict[str, str], status: int, error: str
) -> None:
    done = shell.run("check", "--json", "--io-timeout", "5s", env=env)
    found = json.loads(done.stdout)
    assert (done.returncode, found["usable"]) == (status, False)
    assert found["error"].startswith(error)
    assert KEY not in done.stdout + done.stderr


def test_a_secret_in_the_place_of_the_key_id_is_not_shown(shell: Shell, emulator: Emulator) -> None:
    status, lines = check(shell, emulator.url, (KEY, KEY))
    assert status == 3
    assert all(KEY not in line for line in lines)
