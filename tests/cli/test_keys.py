"""`b2mount keys` against a server that enforces keys by its own lights."""

import json
import shlex
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from b2mount.cli.credentials import Search, find_credentials
from b2mount.cli.key_recipes import Recipes
from b2mount.cli.profiles import parse_profile
from b2mount.core.grant import B2_NAMES
from b2mount.core.presets import PRESETS
from tests.cli.running import Shell
from tests.support.emulator import Emulator


class Manager:
    """Runs `keys` with one key or another."""

    def __init__(self, shell: Shell, emulator: Emulator) -> None:
        self.shell = shell
        self.emulator = emulator

    def run(self, *words: str | Path, key: tuple[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        key_id, secret = key or (self.emulator.master_key_id, self.emulator.master_key)
        env = {
            "B2_APPLICATION_KEY_ID": key_id,
            "B2_APPLICATION_KEY": secret,
            "B2MOUNT_ENDPOINT": self.emulator.url,
        }
        done = self.shell.run("keys", *words, env=env)
        assert secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def object(self, *words: str | Path) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rights_of(self, key_id: str, key: str) -> dict[str, Any]:
        status, reply = self.emulator.authorize(key_id, key)
        assert status == 200
        allowed: dict[str, Any] = reply["apiInfo"]["storageApi"]["allowed"]
        return allowed


@pytest.fixture
def manager(shell: Shell, emulator: Emulator) -> Manager:
    return Manager(shell, emulator)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_each_preset_makes_a_key_with_just_its_rights(manager: Manager, bucket: str, preset: str) -> None:
    made = manager.object("create", "tenant", "--preset", preset, "--bucket", bucket, "--prefix", "a/b/")
    allowed = manager.rights_of(made["key_id"], made["key"])
    assert allowed["capabilities"] == [B2_NAMES[one] for one in PRESETS[preset].capabilities]
    assert allowed["namePrefix"] == "a/b/"
    assert [row["name"] for row in allowed["buckets"]] == [bucket]


def test_a_backup_key_cannot_delete(manager: Manager, bucket: str) -> None:
    made = manager.object("create", "nightly", "--preset", "backup", "--bucket", bucket)
    assert "deleteFiles" not in made["capabilities"]


def test_a_key_for_several_buckets_names_them_all(manager: Manager, bucket: str, emulator: Emulator) -> None:
    other = f"{bucket}-too"
    emulator.create_bucket(other)
    words = ["create", "two", "--preset", "read-only", "--bucket", bucket, "--bucket", other]
    made = manager.object(*words)
    assert made["buckets"] == [bucket, other]
    opened = manager.rights_of(made["key_id"], made["key"])["buckets"]
    assert sorted(row["name"] for row in opened) == sorted([bucket, other])
    assert (
        made["mount"]
        == f"b2mount mount --credentials /etc/b2mount/two.key --endpoint {emulator.url} /mnt/two"
    )
    emulator.wipe(other)


def test_without_a_bucket_the_key_is_for_all_of_them(manager: Manager) -> None:
    made = manager.object("create", "all", "--preset", "read-only")
    assert manager.rights_of(made["key_id"], made["key"])["buckets"] is None


def test_the_duration_ends_the_key(manager: Manager, bucket: str) -> None:
    made = manager.object("create", "brief", "--preset", "read-only", "--bucket", bucket, "--duration", "2h")
    assert abs(made["expires_ms"] / 1000 - time.time() - 7200) < 120


def test_a_capability_can_be_added(manager: Manager, bucket: str) -> None:
    words = [
        "create",
        "keeper",
        "--preset",
        "backup",
        "--bucket",
        bucket,
        "--capability",
        "readFileRetentions",
    ]
    assert "readFileRetentions" in manager.object(*words)["capabilities"]


def test_the_secret_is_shown_once_with_what_to_do(manager: Manager, bucket: str) -> None:
    done = manager.run("create", "shown", "--preset", "read-only", "--bucket", bucket)
    lines = done.stdout.splitlines()
    key_id = lines[0].removeprefix("key ID:           ")
    key = lines[1].removeprefix("application key:  ")
    assert manager.emulator.authorize(key_id, key)[0] == 200
    assert done.stdout.count(key) == 1
    assert lines[2:4] == ["may:              read-only", "ends:             never"]
    assert done.stderr == (
        "b2mount: hint: B2 does not show this secret again: write it to /etc/b2mount/shown.key, chmod 600\n"
    )


def test_a_file_takes_the_secret_and_is_readable_by_its_owner_alone(
    manager: Manager, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "tenant.key"
    words = ["create", "tenant", "--preset", "read-write", "--bucket", bucket, "--prefix", "t/"]
    done = manager.run(*words, "--output", file, "--mountpoint", "/srv/tenant")
    assert done.returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = find_credentials(Search({}, tmp_path, file=file))
    assert manager.emulator.authorize(found.key_id, found.key)[0] == 200
    assert found.key not in done.stdout
    command = f"b2mount mount --credentials {file} --endpoint {manager.emulator.url} {bucket}/t/ /srv/tenant"
    assert command in done.stdout.splitlines()


def test_the_written_file_and_the_command_shown_work_as_they_are(
    manager: Manager, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "tenant.key"
    words = ["create", "tenant", "--preset", "read-write", "--bucket", bucket, "--prefix", "t/"]
    made = manager.object(*words, "--output", file, "--mountpoint", tmp_path)
    assert "key" not in made
    source = shlex.split(made["mount"])[-2]
    checked = manager.shell.run("check", "--credentials", file, "--endpoint", manager.emulator.url, source)
    assert checked.returncode == 0, checked.stderr
    _, mountpoint, kind, options, *_ = made["fstab"].split(" ")
    words = [source, mountpoint, "-f", "-t", kind, "-o", options]
    assert manager.shell.run(*words, program="mount.b2mount").returncode == 0


def test_an_existing_file_is_not_overwritten_and_no_key_is_made(
    manager: Manager, bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("precious")
    before = len(manager.object("list"))
    done = manager.run("create", "x", "--preset", "read-only", "--bucket", bucket, "--output", file)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"b2mount: error: {file} cannot be made: File exists",
        "b2mount: hint: no key was made",
    ]
    assert file.read_text() == "precious"
    assert len(manager.object("list")) == before


def test_a_key_that_could_not_be_made_leaves_no_file(manager: Manager, tmp_path: Path) -> None:
    file = tmp_path / "key"
    done = manager.run("create", "x", "--preset", "read-only", "--bucket", "no-such-bucket", "--output", file)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[0] == "b2mount: error: there is no bucket 'no-such-bucket' in this account"
    )
    assert not file.exists()


MISTAKES = {
    "bad name": (("under_score", "--preset", "read-only"), "'under_score' is not a key's name"),
    "too long": (
        ("x", "--preset", "read-only", "--duration", "1000d"),
        "a key lives from 1 second to less than 1000 days, or for ever",
    ),
    "slash first": (
        ("x", "--preset", "read-only", "--prefix", "/a/"),
        "prefix '/a/' begins with a slash, as no file name does",
    ),
    "drop box everywhere": (
        ("x", "--preset", "drop-box"),
        "a key for all buckets without listBuckets could find none of them",
    ),
    "account right on a bucket": (
        ("x", "--preset", "read-only", "--bucket", "bucket", "--capability", "writeKeys"),
        "a key that is limited to buckets cannot hold writeKeys",
    ),
    "no such right": (
        ("x", "--preset", "read-only", "--capability", "writeAll"),
        "'writeAll' is no capability of B2",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_b2_would_not_make_is_refused_before_anything_is_sent(shell: Shell, mistake: str) -> None:
    words, message = MISTAKES[mistake]
    env = {"B2_APPLICATION_KEY_ID": "0" * 25, "B2_APPLICATION_KEY": "K000" + "x" * 27}
    done = shell.run("keys", "create", *words, "--endpoint", "http://127.0.0.1:9", env=env)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"b2mount: error: {message}")


def test_a_prefix_without_a_slash_is_pointed_out(manager: Manager, bucket: str) -> None:
    done = manager.run("create", "x", "--preset", "read-only", "--bucket", bucket, "--prefix", "ab")
    assert (
        "b2mount: warning: the prefix 'ab' does not end in a slash: it opens 'abxyz' too"
        in done.stderr.splitlines()
    )


def test_keys_are_listed_with_what_they_open_and_deleted(manager: Manager, bucket: str) -> None:
    made = manager.object("create", "mine", "--preset", "backup", "--bucket", bucket, "--prefix", "a/")
    line = next(line for line in manager.run("list").stdout.splitlines() if line.startswith(made["key_id"]))
    assert line == f"{made['key_id']}  mine  {bucket}/a/  backup  never"
    row = next(row for row in manager.object("list") if row["key_id"] == made["key_id"])
    assert (row["buckets"], row["prefix"], row["expires_ms"]) == ([bucket], "a/", None)
    assert manager.run("delete", made["key_id"]).stdout == f"deleted {made['key_id']}\n"
    assert made["key_id"] not in [row["key_id"] for row in manager.object("list")]
    assert manager.emulator.authorize(made["key_id"], made["key"])[0] == 401


@pytest.mark.parametrize(
    ("words", "verb", "right"),
    [
        (("create", "x", "--preset", "read-only"), "make", "writeKeys"),
        (("list",), "list", "listKeys"),
        (("delete", "0" * 25), "delete", "deleteKeys"),
    ],
)
def test_a_key_that_may_not_manage_keys_is_told_which_right_it_lacks(
    manager: Manager, bucket: str, emulator: Emulator, words: tuple[str, ...], verb: str, right: str
) -> None:
    key = emulator.create_key(["listBuckets", "listFiles"], [bucket])
    since = emulator.last_seq()
    done = manager.run(*words, key=key)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"b2mount: error: this key may not {verb} keys: it lacks {right}",
        f"b2mount: hint: use the master key, or a key for the whole account with {right}",
    ]
    assert [row["call"] for row in emulator.log(since) if row["key_id"] == key[0]] == ["b2_authorize_account"]


def test_odd_names_are_escaped_where_they_are_shown() -> None:
    recipes = Recipes("x", 'photos/a "b" 100%,$c/', Path("/etc/b2 mount/k,1"), Path("/mnt/a b"))
    assert shlex.split(recipes.mount_command)[-2:] == ['photos/a "b" 100%,$c/', "/mnt/a b"]
    assert recipes.fstab_line == (
        'photos/a\\040"b"\\040100%,$c/ /mnt/a\\040b b2mount '
        "_netdev,nofail,allow_other,credentials=/etc/b2\\040mount/k\\134,1 0 0"
    )
    profile = parse_profile(recipes.profile_file, recipes.profile)
    assert (profile.source, profile.mountpoint) == ('photos/a "b" 100%,$c/', Path("/mnt/a b"))
    assert "install -m 600 '/etc/b2 mount/k,1' /etc/b2mount/x.key" in recipes.service_commands


def test_the_service_shown_agrees_with_the_template() -> None:
    template = (Path(__file__).parents[2] / "systemd" / "b2mount@.service").read_text()
    recipes = Recipes("photos", "photos/2024", Path("/etc/b2mount/photos.key"), Path("/mnt/photos"))
    assert recipes.unit_name == "b2mount@photos.service"
    assert f"LoadCredential=b2mount:{recipes.file}".replace("photos.key", "%i.key") in template
    assert recipes.profile_file == Path("/etc/b2mount/photos.toml")
    assert "ExecStart=b2mount mount --profile %i\n" in template
    assert recipes.service_commands == [
        "install -d -o b2mount -g b2mount /mnt/photos",
        "systemctl enable --now b2mount@photos.service",
    ]
    assert parse_profile(recipes.profile_file, recipes.profile).said == {"allow_other": True}


def test_a_profile_says_where_keys_are_managed(shell: Shell, emulator: Emulator, bucket: str) -> None:
    profile = shell.home / ".config/b2mount/admin.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        f'endpoint = "{emulator.url}"\nkey_id = "{emulator.master_key_id}"\nkey = "{emulator.master_key}"\n'
    )
    profile.chmod(0o600)
    words = ["create", "tenant", "--preset", "read-only", "--bucket", bucket, "--json"]
    done = shell.run("keys", *words, "--profile", "admin")
    assert done.returncode == 0, done.stderr
    assert emulator.url in done.stdout  # what uses the key asks at the same place
    done = shell.run("keys", "list", "--profile", "admin", "--json")
    assert "tenant" in [row["name"] for row in json.loads(done.stdout)], done.stderr
