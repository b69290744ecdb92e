"""What the pages tell people to type works, as it stands there: see tests/support/pages.py.

The recipes and the README's first mount are in tests/test_recipes.py, the emulator's page in tests/emulator.
"""

import time

import pytest

from tests.support.pages import Machine, runnable

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

DAY_MS = 86_400_000
NEW_YEAR_2025_MS = 1_735_689_600_000


def test_the_page_on_archives_works(machine: Machine) -> None:
    now_ms = int(time.time() * 1000)
    machine.emulator.create_bucket("photos")
    machine.emulator.seed(
        "photos",
        [
            {"name": "2024/cat.jpg", "content": "kitten", "uploaded_ms": NEW_YEAR_2025_MS},
            {"name": "2024/cat.jpg", "content": "cat", "uploaded_ms": now_ms - 30 * DAY_MS},
            {"name": "2024/late.jpg", "content": "late", "uploaded_ms": now_ms - DAY_MS},
            {"name": "cat.jpg", "content": "removed", "uploaded_ms": now_ms - 2 * DAY_MS},
            {"name": "cat.jpg", "action": "hide", "uploaded_ms": now_ms - DAY_MS},
            {"name": "notes.txt", "content": "before\n", "uploaded_ms": now_ms - 3 * DAY_MS},
            {"name": "notes.txt", "content": "after\n", "uploaded_ms": now_ms - 60_000},
        ],
    )
    said = machine.run([*runnable("docs/archives.md"), "b2mount unmount /mnt/photos"], machine.master)
    assert "late.jpg" not in said.split("b2mount unmount")[0]  # three days ago it was not there
    assert "2025-01-01T00:00:00.000Z" in said
    assert "< before\n---\n> after\n" in said
    assert "\nchanged since\n" in said
    held = {row["fileName"]: machine.emulator.download("photos", row["fileName"]) for row in visible(machine)}
    assert held == {
        "2024/cat.jpg": b"kitten",
        "then/cat.jpg": b"kitten",
        "cat.jpg": b"removed",
        "notes.txt": b"after\n",
    }


def visible(machine: Machine) -> list[dict[str, str]]:
    return [row for row in machine.emulator.list_names("photos") if not row["fileName"].endswith("/")]


def test_the_page_on_keys_works(machine: Machine) -> None:
    for bucket in ("photos", "shared", "backups", "archive", "uploads"):
        machine.emulator.create_bucket(bucket)
    machine.emulator.create_bucket("locked", fileLockEnabled=True)
    ended = "cd; b2mount unmount /mnt/locked; b2mount unmount /srv/tenant-a"
    said = machine.run([*runnable("docs/keys.md"), ended], machine.master)
    assert 'user.b2.retention="governance 2' in said
    assert 'user.b2.legal_hold="on"' in said
    assert machine.left_mounted() == []
    fields = [line.split() for line in (machine.root / "etc/fstab").read_text().splitlines()]
    assert [line[:3] for line in fields] == [
        [f"shared/{tenant}/", f"{machine.root}/srv/{tenant}", "b2mount"] for tenant in ("ann", "ben")
    ]
    keys = ("tenant-a.key", "ann.key", "ben.key", "nightly.key", "reader.key", "inbox.key")
    made = {file.name: file.stat().st_mode & 0o777 for file in (machine.root / "etc/b2mount").glob("*.key")}
    assert made == dict.fromkeys(keys, 0o600)


def test_the_page_on_watching_works(machine: Machine) -> None:
    machine.emulator.create_bucket("photos")
    said = machine.run(runnable("docs/monitoring.md"), machine.master)
    assert "\nb2mount_build_info{" in said
    assert f'mountpoint="{machine.root}/mnt/photos"' in said
    assert machine.left_mounted() == []


def test_the_page_on_several_hosts_works(machine: Machine) -> None:
    emulator = machine.emulator
    emulator.create_bucket("photos")
    theirs = emulator.upload("photos", "report.txt", b"theirs")["fileId"]
    emulator.upload("photos", "report.txt", b"ours")
    emulator.upload("photos", "shared.txt", b"as it was")
    (machine.root / "mnt/photos").mkdir(parents=True)
    (machine.root / "mnt/other").mkdir()
    conflict = """
        b2mount mount --daemon --state-dir /mnt/state photos /mnt/other
        exec 3> /mnt/photos/shared.txt  # from here on we change what was there before the other wrote
        echo other > /mnt/other/shared.txt; b2mount flush /mnt/other
        echo ours >&3; exec 3>&-
        b2mount unmount /mnt/photos; b2mount unmount /mnt/other
    """
    script = [*runnable("docs/several-hosts.md"), conflict]
    machine.run(script, machine.master, {"THEIR_VERSION_ID": theirs})
    assert (machine.home / "report.theirs").read_bytes() == b"theirs"
    held = {row["fileName"]: emulator.download("photos", row["fileName"]) for row in visible(machine)}
    (beside,) = [content for name, content in held.items() if name.startswith("shared.conflict-")]
    assert (held["shared.txt"], beside) == (b"ours\n", b"other\n")
