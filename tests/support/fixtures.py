"""Fixtures for tests that need a server: one emulator a session, one fresh bucket a test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for all tests of the session; who changes its settings puts them back."""
    data: Path = tmp_path_factory.mktemp("emulator")
    with Emulator(data) as server:
        yield server


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[str]:
    """Give the name of a fresh bucket, removed afterwards with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    emulator.create_bucket(name)
    yield name
    emulator.clear_faults()
    emulator.wipe(name)
