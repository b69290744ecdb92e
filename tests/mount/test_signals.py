"""Signals at the worst moment."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

pytestmark = pytest.mark.fuse

# Stays for a second in the moment in which the kernel shows the mount and nobody serves it yet.
SLOW_START = """
import sys, time
from b2mount import fuse_readahead
from b2mount.cli.main import main
fuse_readahead.raise_read_ahead = lambda mountpoint: time.sleep(1)
sys.exit(main())
"""


def test_a_signal_just_after_mounting_leaves_no_dead_mount_behind(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(list(ALL), [bucket])
    mount = Mount(emulator, tmp_path, key, program=(sys.executable, "-c", SLOW_START))
    try:
        mount.start()
        assert mount.process is not None
        mount.process.send_signal(signal.SIGTERM)
        status = mount.process.wait(240)
        assert (status, mount.is_mounted()) == (0, False), mount.log()
    finally:
        mount.kill()
