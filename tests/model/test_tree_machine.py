"""Random steps on a mount and on a local directory side by side: a short form of tests/model/torture.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.generator import EVENTS, PART
from tests.model.torture import run_random
from tests.support.emulator import Emulator

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A server that takes small parts, so that small files are assembled from parts too."""
    with Emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        emulator.settings(min_part_size=PART)
        yield emulator


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_mount_answers_as_a_local_directory_does(server: Emulator, tmp_path: Path, seed: int) -> None:
    run_random(server, tmp_path, seed, 200, EVENTS)


@pytest.mark.parametrize("seed", [1001, 1002])
def test_a_mount_answers_alike_while_calls_go_wrong(server: Emulator, tmp_path: Path, seed: int) -> None:
    run_random(server, tmp_path, seed, 200, {**EVENTS, "fault": 12.0})


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2000, 2020))
def test_a_mount_answers_as_a_local_directory_does_for_long(
    server: Emulator, tmp_path: Path, seed: int
) -> None:
    run_random(server, tmp_path, seed, 1000, {**EVENTS, "fault": 6.0})
