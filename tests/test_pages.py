"""What the pages tell people to type works, as it stands there: see tests/support/pages.py.

The recipes and the README's first mount are in tests/test_recipes.py, the emulator's page in tests/emulator.
"""

import re
import time
from collections.abc import Iterator

import pytest

from tests.support.mount import ALL
from tests.support.not_run import NOT_RUN
from tests.support.pages import PROJECT, Block, Machine, all_blocks, block, runnable, session
from tests.support.programs import need

DAY_MS = 86_400_000
NEW_YEAR_2025_MS = 1_735_689_600_000
CHANGING = {
    r"b2mount-demo-[0-9a-f]+": "BUCKET",
    r"up: .* \(process \d+\)": "up: TIME",
    r"\b000[0-9a-f]{22}\b": "KEY_ID",
}
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (PROJECT / "docs").glob("*.md"))]


@pytest.mark.fuse
@pytest.mark.tools
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


@pytest.mark.fuse
@pytest.mark.tools
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


@pytest.mark.fuse
@pytest.mark.tools
def test_the_page_on_watching_and_the_first_questions_of_troubleshooting_work(machine: Machine) -> None:
    machine.emulator.create_bucket("photos")
    mount_and_status, *others = runnable("docs/monitoring.md")
    script = [mount_and_status, *runnable("docs/troubleshooting.md"), *others]
    said = machine.run(script, machine.master, {"status DIR": f"status {machine.root}/mnt/photos"})
    assert "\nb2mount_build_info{" in said
    assert f'mountpoint="{machine.root}/mnt/photos"' in said
    assert machine.left_mounted() == []


@pytest.mark.fuse
@pytest.mark.tools
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


@pytest.mark.tools
def test_the_profile_and_the_manual_of_the_page_on_running_a_mount_work(machine: Machine) -> None:
    need("man")
    machine.emulator.create_bucket("photos")
    key_id, key = machine.emulator.create_key(ALL, ["photos"])
    profile = machine.home / ".config/b2mount/photos.toml"
    key_file = machine.root / "etc/b2mount/photos.key"
    for file, text in (
        (profile, machine.moved(block("docs/operating.md", 'source = "photos/2024"'))),
        (key_file, f"{key_id}\n{key}\n"),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o600)
    said = machine.run(runnable("docs/operating.md"), machine.master)
    assert 'cache_size = "50G"' in said
    assert key not in said
    assert (machine.root / "usr/local/share/man/man1/b2mount.1").read_text().startswith(".")
    assert "complete" in (machine.home / ".local/share/bash-completion/completions/b2mount").read_text()


@pytest.mark.fuse
@pytest.mark.tools
@pytest.mark.slow
def test_the_recipe_for_duplicity_works(machine: Machine) -> None:
    for program in ("duplicity", "gpg", "openssl"):
        need(program)
    machine.emulator.create_bucket("backups")
    key_and_mount = runnable("docs/recipes.md")[0]
    password = "openssl rand -base64 24 > ~/.backup-password"
    recipe = block("docs/recipes.md", "mkdir -p /srv/backup/duplicity")
    machine.run([key_and_mount, password, recipe, "b2mount unmount /srv/backup"], machine.master)
    names = [row["fileName"] for row in machine.emulator.list_names("backups", "host1/duplicity/")]
    assert [name for name in names if name.endswith(".difftar.gpg")]


@pytest.fixture
def demo(machine: Machine) -> Iterator[Machine]:
    """A newcomer's machine on which `make demo` has been said."""
    machine.type("b2mount demo")
    yield machine
    machine.type("b2mount demo --stop --purge")
    assert machine.left_mounted() == []


@pytest.mark.fuse
def test_the_session_of_the_readme_goes_as_it_went(demo: Machine) -> None:
    steps = session("README.md")
    assert len(steps) >= 9
    for command, said in steps:
        assert (command, settled(demo.type(command))) == (command, settled(said))


def settled(said: str) -> str:
    """Return *said* without columns and what is another each time."""
    text = " ".join(said.split())
    for changing, name in CHANGING.items():
        text = re.sub(changing, name, text)
    return text


def test_every_block_is_run_or_has_a_reason_not_to_be() -> None:
    seen = [block for page in PAGES for block in all_blocks(page)]
    assert len([block for block in seen if block.is_run]) > 25
    left = [block for block in seen if not block.is_run]
    assert [(block.page, block.first_line) for block in left if not reasons(block)] == []
    named = {(page, beginning) for page, told in NOT_RUN.items() for beginning in told}
    assert named == {(block.page, beginning) for block in left for beginning in reasons(block)}


def reasons(block: Block) -> list[str]:
    """Return the beginnings under which a reason not to run *block* stands."""
    return [beginning for beginning in NOT_RUN.get(block.page, {}) if block.first_line.startswith(beginning)]
