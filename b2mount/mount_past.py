"""What a mount of a past moment (`--at`) does otherwise: its store, its options, and a journal for nothing.

It sends nothing and shows nothing unsent, so it neither locks nor reads the state directory of its scope: a
mount of the present goes on beside it. What it keeps (a lock, the control socket) is removed at its end.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from b2mount.core.errors import LocalStorageError
from b2mount.core.options import MountOptions
from b2mount.mount_private import make_private
from b2mount.store.authorization import CLOCK_SLACK_MS
from b2mount.store.past import PastStore
from b2mount.store.store import Store

UNCHANGING_SECONDS = 10 * 365 * 86_400.0  # of listings that never change; finite, for the kernel's sake


def shown_store(store: Store, options: MountOptions) -> Store:
    """Return the store that the mount shows."""
    return store if options.at is None else PastStore(store, options.at)


def shown_options(options: MountOptions, *, now_ms: int) -> MountOptions:
    """Return the options that the mount lives by; *now_ms* is B2's clock.

    A moment that is past by this machine's clock alone is B2's present: what it shows must not change later.
    """
    if options.at is None:
        return options
    at = min(options.at, now_ms + CLOCK_SLACK_MS)
    return replace(options, at=at, read_only=True, listing_ttl=UNCHANGING_SECONDS)


@contextlib.contextmanager
def passing_directory(state: Path) -> Iterator[Path]:
    """Make a state directory that is removed at the end, and remove those that crashes left.

    Raises LocalStorageError.
    """
    parent = state / "past"
    make_private(parent, "state directory")
    try:
        for left in parent.iterdir():
            _remove_unused(left)
        made = tempfile.mkdtemp(dir=parent)
    except OSError as exc:
        raise LocalStorageError(f"the state directory {parent} cannot be used: {exc.strerror}") from exc
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove_unused(directory: Path) -> None:
    """Remove what a mount left that does not live any more: the lock of its journal is free."""
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # about to be locked, or not ours
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(fd)
