"""What the tests of programs share: a tenant's mount, in a bucket where others live too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted


@pytest.fixture
def tenant(emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[Mount]:
    """Mount `tenant-a/` by a key that opens nothing else; afterwards the neighbour is as it was."""
    emulator.upload(bucket, "tenant-b/secret.txt", b"not yours")
    with mounted(emulator, tmp_path / "b2", bucket, prefix="tenant-a/") as mount:
        yield mount
    others = [
        row["fileName"] for row in emulator.list_names(bucket) if not row["fileName"].startswith("tenant-a/")
    ]
    assert others == ["tenant-b/secret.txt"]
    assert emulator.download(bucket, "tenant-b/secret.txt") == b"not yours"
