"""`b2mount check` against a server that enforces keys by its own lights."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Shell
from tests.support.emulator import Emulator

READ_ONLY = ["listBuckets", "listFiles", "readFiles"]
READ_WRITE = [*READ_ONLY, "writeFiles", "deleteFiles"]


class Checker:
    """Runs `check` with one key or another, and never without looking for the secret in what it prints."""

    def __init__(self, shell: Shell, emulator: Emulator) -> None:
        self._shell = shell
        self._endpoint = emulator.url

    def run(self, key_id: str, key: str, *words: str) -> tuple[int, str, list[str]]:
        env = {
            "B2_APPLICATION_KEY_ID": key_id,
            "B2_APPLICATION_KEY": key,
            "B2MOUNT_ENDPOINT": self._endpoint,
        }
        done = self._shell.run("check", *words, env=env)
        assert key_id[:1] == "K" or key.strip() not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr.splitlines()

    def findings(self, key_id: str, key: str, *words: str) -> dict[str, Any]:
        status, stdout, _ = self.run(key_id, key, "--json", *words)
        found: dict[str, Any] = json.loads(stdout)
        assert found["usable"] is (status == 0)
        return found


@pytest.fixture
def checker(shell: Shell, emulator: Emulator) -> Iterator[Checker]:
    yield Checker(shell, emulator)
    assert [path.name for path in shell.home.iterdir()] == []  # nothing is left on disk


def operations(findings: dict[str, Any]) -> dict[str, str | None]:
    return {row["operation"]: row["errno"] for row in findings["operations"]}


def test_a_key_for_one_prefix_is_described(checker: Checker, emulator: Emulator, bucket: str) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket], "tenant-a/")
    status, stdout, stderr = checker.run(key_id, key)
    assert (status, stderr) == (0, [])
    assert stdout.splitlines()[:10] == [
        f"key:      {key_id}, an application key for one bucket, names that begin with 'tenant-a/'",
        "found in: B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY",
        f"account:  {emulator.account_id}",
        f"buckets:  {bucket}",
        "prefix:   tenant-a/",
        "ends:     never",
        "may:      listBuckets listFiles readFiles writeFiles deleteFiles",
        f"root:     tenant-a/ in bucket {bucket}",
        "access:   read and write",
        "",
    ]
    assert "read a file                        yes" in stdout.splitlines()


def test_a_key_that_only_reads_makes_a_read_only_mount(
    checker: Checker, emulator: Emulator, bucket: str
) -> None:
    findings = checker.findings(*emulator.create_key(READ_ONLY, [bucket]))
    assert findings["read_only"] is True
    rows = operations(findings)
    assert (rows["read a file"], rows["create a file"], rows["remove a file"]) == (None, "EROFS", "EROFS")


def test_a_drop_box_is_recognised(checker: Checker, emulator: Emulator, bucket: str) -> None:
    findings = checker.findings(*emulator.create_key(["writeFiles"], [bucket]))
    rows = operations(findings)
    assert (rows["create a file"], rows["read a file"], rows["list a directory"]) == (
        None,
        "EACCES",
        "EACCES",
    )
    messages = [remark["message"] for remark in findings["remarks"]]
    assert "this is a drop box: the key may write, but neither list nor read" in messages


@pytest.mark.parametrize(
    ("capabilities", "access"),
    [
        (READ_ONLY, "read-only"),
        (["listFiles"], "list only, no reading"),
        (["listFiles", "writeFiles"], "list and write, no reading"),
        (["readFiles", "writeFiles"], "read and write by full names, no listing"),
        (["readFiles"], "read-only, by full names, no listing"),
        (["writeFiles"], "write only"),
    ],
)
def test_the_access_is_told_as_the_rights_make_it(
    checker: Checker, emulator: Emulator, bucket: str, capabilities: list[str], access: str
) -> None:
    status, stdout, stderr = checker.run(*emulator.create_key(capabilities, [bucket]))
    assert status == 0
    assert f"access:   {access}" in stdout.splitlines()
    is_told = "b2mount: warning: files cannot be read: the key lacks readFiles" in stderr
    assert is_told is ("listFiles" in capabilities and "readFiles" not in capabilities)


def test_several_buckets_are_named(checker: Checker, emulator: Emulator, bucket: str) -> None:
    emulator.create_bucket("another-" + bucket)
    findings = checker.findings(*emulator.create_key(READ_WRITE, [bucket, "another-" + bucket]))
    assert sorted(findings["buckets"]) == sorted([bucket, "another-" + bucket])
    assert findings["root"] == "one directory a bucket"
    assert findings["kind"] == "an application key for 2 buckets"


def test_the_master_key_is_accepted_with_a_warning(checker: Checker, emulator: Emulator, bucket: str) -> None:
    status, stdout, stderr = checker.run(emulator.master_key_id, emulator.master_key)
    assert status == 0
    assert f"key:      {emulator.master_key_id}, the master key" in stdout
    assert stderr == [
        "b2mount: warning: this is the master key: it opens the whole account, "
        "and every program that reads it does",
        "b2mount: hint: make an application key for this mount alone",
    ]


def test_source_narrows_what_the_root_is(checker: Checker, emulator: Emulator, bucket: str) -> None:
    findings = checker.findings(*emulator.create_key(READ_WRITE), f"{bucket}/photos")
    assert findings["root"] == f"photos/ in bucket {bucket}"


def test_source_outside_the_key_is_refused(checker: Checker, emulator: Emulator, bucket: str) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket], "tenant-a/")
    status, stdout, stderr = checker.run(key_id, key, f"{bucket}/tenant-b")
    assert (status, stdout) == (3, "")
    assert stderr[:2] == [
        f"b2mount: error: the key does not cover 'tenant-b/' in bucket '{bucket}'",
        f"b2mount: hint: it covers bucket '{bucket}', names that begin with 'tenant-a/'",
    ]


def test_a_bucket_that_is_not_there_is_refused(checker: Checker, emulator: Emulator) -> None:
    status, _, stderr = checker.run(*emulator.create_key(READ_WRITE), "no-such-bucket")
    assert status == 3
    assert stderr[0] == "b2mount: error: there is no bucket 'no-such-bucket' in this account"


def test_a_key_without_listBuckets_asks_for_no_listing_of_buckets(
    checker: Checker, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(["listFiles", "readFiles"], [bucket])
    since = emulator.last_seq()
    assert checker.findings(key_id, key)["buckets"] == [bucket]
    calls = [entry["call"] for entry in emulator.log(since) if entry["key_id"] == key_id]
    assert calls == ["b2_authorize_account"]


def test_an_account_wide_key_that_may_not_list_buckets_is_as_useless_as_to_mount(
    checker: Checker, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(["listFiles", "readFiles"])
    assert checker.run(key_id, key)[0] == 3
    status, _, stderr = checker.run(key_id, key, bucket)
    assert status == 3
    assert stderr[:2] == [
        f"b2mount: error: the ID of bucket '{bucket}' cannot be found out: the key lacks listBuckets",
        "b2mount: hint: say it by --bucket-id (B2's web page shows it), or use a key with listBuckets "
        "or for this bucket",
    ]
    bucket_id = emulator.bucket_id(bucket)
    status, stdout, _ = checker.run(key_id, key, bucket, "--bucket-id", bucket_id)
    assert status == 0
    assert f"buckets:  {bucket}" in stdout
    assert checker.run(key_id, key, bucket, "--bucket-id", "4a48fe8875c6214145260818")[0] == 3


def test_a_key_that_ends_soon_is_warned_about(checker: Checker, emulator: Emulator, bucket: str) -> None:
    findings = checker.findings(*emulator.create_key(READ_WRITE, [bucket], seconds=3600))
    assert abs(findings["expires_ms"] / 1000 - time.time()) < 7200
    assert "the key ends within a week" in [remark["message"] for remark in findings["remarks"]]


@pytest.mark.parametrize("end", ["expire_key", "delete_key"])
def test_a_key_that_is_over_is_refused(checker: Checker, emulator: Emulator, bucket: str, end: str) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    getattr(emulator, end)(key_id)
    status, stdout, stderr = checker.run(key_id, key)
    assert (status, stdout) == (3, "")
    assert stderr[0].startswith("b2mount: error: B2 does not accept the key")
    assert stderr[-1] == (
        f"b2mount: hint: key ID {key_id} came from B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY"
    )


def test_a_key_that_opens_no_files_is_not_usable(checker: Checker, emulator: Emulator, bucket: str) -> None:
    status, _, stderr = checker.run(*emulator.create_key(["listBuckets"], [bucket]))
    assert status == 3
    assert stderr[-1] == "b2mount: error: a mount with this key would show nothing and take nothing"


def test_hidden_characters_are_cleaned_and_told_of(checker: Checker, emulator: Emulator, bucket: str) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    status, _, stderr = checker.run(f"\u200b{key_id}\u00a0", f"\ufeff {key}\n")
    assert status == 0
    assert stderr == [
        "b2mount: warning: zero-width characters and non-breaking spaces in the key ID went unused",
        "b2mount: hint: take it out where the key ID is kept: other programs may stumble over it",
        "b2mount: warning: white space and a byte order mark in the application key went unused",
        "b2mount: hint: take it out where the application key is kept: other programs may stumble over it",
    ]


def test_the_classic_mistakes_are_named_after_the_refusal(
    checker: Checker, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket])
    mistakes = {
        (emulator.account_id, key): "an account ID is used as the key ID of an application key",
        (key, key_id): "the key ID and the application key are swapped",
        (key_id, key[:-2]): "the application key has 29 characters where B2's have 31: its end is missing",
        (key_id[:-1], key): "the key ID has the shape of a bucket ID",
        (key_id[:-2], key): "the key ID has 23 characters where B2's have 25: its end is missing",
    }
    for pair, suspicion in mistakes.items():
        status, _, stderr = checker.run(*pair)
        assert (status, stderr[1]) == (3, f"b2mount: hint: it seems that {suspicion}")
        assert key not in "\n".join(stderr)


def test_a_refusal_as_json_is_json(checker: Checker, emulator: Emulator) -> None:
    key_id, key = emulator.create_key(READ_WRITE)
    emulator.delete_key(key_id)
    findings = checker.findings(key_id, key)
    assert findings["key_id"] == key_id
    assert findings["error"].startswith("B2 does not accept the key")


def test_a_server_that_is_not_there_is_no_fault_of_the_key(shell: Shell) -> None:
    env = {"B2_APPLICATION_KEY_ID": "0018f5033aa08600000000001", "B2_APPLICATION_KEY": "K001" + "x" * 27}
    done = shell.run("check", "--endpoint", "http://127.0.0.1:9", "--io-timeout", "1", env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "b2mount: error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_no_credentials_is_exit_status_3(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("check", "--endpoint", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "b2mount: error: no credentials found"


@pytest.mark.parametrize("source", ["/photos", "photos//2024", "a b"])
def test_a_source_that_makes_no_sense_is_refused_before_anything_is_sent(shell: Shell, source: str) -> None:
    done = shell.run("check", source)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(f"b2mount: error: SOURCE '{source}'")


def test_a_profile_says_where_to_ask_and_what_is_mounted(
    shell: Shell, emulator: Emulator, bucket: str
) -> None:
    key_id, key = emulator.create_key(READ_WRITE, [bucket], "tenant-a/")
    profile = shell.home / ".config/b2mount/tenant.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        f'source = "{bucket}/tenant-a/b"\nendpoint = "{emulator.url}"\nkey_id = "{key_id}"\nkey = "{key}"\n'
    )
    profile.chmod(0o600)
    for words in (["profile:tenant"], ["--profile", "tenant"]):
        done = shell.run("check", *words, env={"B2MOUNT_ENDPOINT": "http://127.0.0.1:9"})
        assert done.returncode == 0, done.stderr
        assert f"tenant-a/b/ in bucket {bucket}" in done.stdout
    done = shell.run("check", "--profile", "tenant", "other-bucket")
    assert done.returncode == 3
    assert "other-bucket" in done.stderr
    done = shell.run("check", "--profile", "tenant", "--endpoint", "http://127.0.0.1:9", "--io-timeout", "1s")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
