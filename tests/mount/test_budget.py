"""A day's budget on a real mount: what is asked for still works, what is only guessed is not fetched."""

import re
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import calls_of, wait_until

pytestmark = pytest.mark.fuse


def test_spent_calls_spare_listings_and_say_so_and_survive_a_remount(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, pattern="d/%03d", count=20, size=100)
    options = ["--max-class-c-per-day", "4", "--max-class-b-per-day", "5", "--listing-ttl", "0.2s"]
    with mounted(emulator, tmp_path, bucket, options=options) as mount:
        wait_until(
            lambda: (
                bool(list((mount.path / "d").iterdir()))
                and "the 4 class C calls a day are spent" in mount.log()
            ),
            "looking again and again spends the calls, and the log says so",
        )
        told = mount.status()["today"]
        assert told["budget"]["class_c"]["stage"] == "spent"
        assert "10 times as long" in told["budget"]["class_c"]["means"]
        for path in sorted((mount.path / "d").iterdir()):  # a scan; nothing is fetched ahead once B is spent
            assert path.read_bytes()
        assert mount.status()["today"]["budget"]["class_b"]["stage"] == "spent"
        assert mount.log().count("class C calls a day are spent:") == 1
        spent = mount.status()["today"]["C"]
        mount.remount()
        assert mount.status()["today"]["C"] >= spent
        assert mount.status()["calls"]["C"] < spent
        assert (mount.path / "d/000").read_bytes()


def test_a_spent_day_warns_degrades_and_begins_anew_at_midnight_utc(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "d/old", b"old")
    clock = Clock(tmp_path)
    options = ["--max-class-c-per-day", "5", "--listing-ttl", "0.5s"]
    key = emulator.create_key(list(ALL), [bucket])
    with Mount(emulator, tmp_path, key, options=options, program=clock.program) as mount:
        spent = "the 5 class C calls a day are spent: until 00:00 UTC"
        wait_until(
            lambda: bool(list((mount.path / "d").iterdir())) and spent in mount.log(), "the calls are spent"
        )
        before = mount.status()["today"]
        assert before["budget"]["class_c"]["stage"] == "spent"
        assert "begins anew" not in mount.log()
        clock.jump()
        after = mount.status()["today"]
        assert after["day"] > before["day"]
        assert after["C"] < 5
        assert after["budget"]["class_c"]["stage"] == "fine"
        assert after["budget"]["class_c"]["means"] is None
        wait_until(lambda: "a new day (UTC): the budget of class C calls begins anew" in mount.log(), "")
        assert " 0 of 5" in re.sub(" +", " ", mount.ask("status").stdout)
        (mount.path / "d/old").read_bytes()
        emulator.upload(bucket, "d/new", b"new")
        wait_until(lambda: (mount.path / "d/new").exists(), "others' changes show as soon as ever")
        counted = mount.status()["today"]
        mount.remount()  # on the same day: it is counted on
        assert mount.status()["today"]["day"] == counted["day"]
        assert mount.status()["today"]["C"] >= counted["C"] >= 1


@pytest.mark.parametrize(("limit", "least", "most"), [("1", 12, 12), ("1000", 16, 60)])
def test_files_are_fetched_ahead_of_a_scan_only_while_the_budget_lasts(
    emulator: Emulator, bucket: str, tmp_path: Path, limit: str, least: int, most: int
) -> None:
    emulator.seed(bucket, pattern="d/%03d", count=60, size=100)
    options = ["--max-class-b-per-day", limit]
    with mounted(emulator, tmp_path, bucket, options=options) as mount:
        since = emulator.last_seq()
        for name in sorted(path.name for path in (mount.path / "d").iterdir())[:12]:
            assert len((mount.path / "d" / name).read_bytes()) == 100

        def fetched() -> int:
            return calls_of(emulator, mount.key, since).count("b2_download_file_by_id")

        wait_until(lambda: fetched() >= least, "files are fetched")
        assert fetched() <= most


def test_with_its_download_spent_a_mount_fetches_what_is_read_and_no_more(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [{"name": "large", "size": 64 << 20}])
    with mounted(emulator, tmp_path, bucket, options=["--max-download-per-day", "1"]) as mount:
        with (mount.path / "large").open("rb") as file:
            for _ in range(8):
                file.read(1 << 20)
        first = mount.status()["bytes"]["down"]
        assert 8 << 20 <= first <= 24 << 20  # the kernel reads ahead by itself
        assert mount.status()["today"]["budget"]["download_bytes"]["stage"] == "spent"
