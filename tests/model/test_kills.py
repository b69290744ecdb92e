"""kills.py with seeds that stay: writers at work on a mount that is killed at random moments."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.generator import PART
from tests.model.kills import OPTIONS, Kills
from tests.support.emulator import Emulator

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        emulator.settings(min_part_size=PART)
        yield emulator


def test_a_mount_killed_under_its_writers_keeps_what_was_promised(server: Emulator, tmp_path: Path) -> None:
    Kills(server, tmp_path, 1000, writers=3).run(crashes=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1000, 1000 + 3 * len(OPTIONS)))
def test_a_mount_killed_often_under_its_writers_keeps_what_was_promised(
    server: Emulator, tmp_path: Path, seed: int
) -> None:
    Kills(server, tmp_path, seed).run(crashes=12)
