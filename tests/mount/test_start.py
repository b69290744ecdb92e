"""What a mount loads when it starts: its imports are most of its start-up."""

import sys
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

pytestmark = pytest.mark.fuse

# Each is for a verb, an option or a mishap, and took 5 to 200 ms.
NOT_AT_START = {
    "asyncio",
    "b2sdk._internal.api",
    "b2sdk._internal.b2_http",
    "b2sdk.v3",
    "b2mount.emulator",
    "b2mount.mount_metrics",
    "difflib",
    "prometheus_client",
    "requests",
    "rich",
    "tomllib",
    "urllib3",
}
AT_START = {"b2sdk._internal.raw_api", "pyfuse3", "sqlite3"}  # proves that imports are seen


def test_a_plain_mount_imports_nothing_that_only_verbs_and_options_need(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(ALL, [bucket])
    program = (sys.executable, "-X", "importtime", "-m", "b2mount.cli.main")
    with Mount(emulator, tmp_path, key, source=bucket, program=program) as mount:
        (mount.path / "file").write_text("as usual")
        assert (mount.path / "file").read_text() == "as usual"
        lines = mount.log().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert imported >= AT_START
    assert imported & NOT_AT_START == set()
