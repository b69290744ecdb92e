"""A draft: content that was written here and is not in B2 yet, as a map of extents over a base version.

A working draft takes writes. Committing freezes it: what the journal promised to send may not change under
the sender, so later writes begin a new draft whose base is the frozen one. Knows the files of the spool
directory; knows neither the tree, nor the order in which drafts are sent.
"""

import contextlib
import ctypes
import errno
import math
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from b2mount.core.errors import LocalStorageError, OutOfSpace
from b2mount.core.extents import Extents, Origin, Segment
from b2mount.core.posix import Attributes
from b2mount.journal.prints import Ranges, print_of
from b2mount.journal.room import Room
from b2mount.journal.unfinished import LargeFile
from b2mount.store.store import FileVersion

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_PUNCH_HOLE_KEEP_SIZE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h

AUTOMATIC_CONTENT_TYPE = "b2/x-auto"  # B2 chooses by the name's extension


def local_error(exc: OSError, doing: str) -> LocalStorageError:
    """Turn the local disk's error into ours, saying what was being done."""
    kind = OutOfSpace if exc.errno in (errno.ENOSPC, errno.EDQUOT) else LocalStorageError
    return kind(f"{doing}: {exc.strerror}")


def sync_directory(directory: Path) -> None:
    """Wait until the disk has the names in a directory. Blocks. Raises LocalStorageError."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise local_error(exc, f"syncing the directory {directory}") from exc


class Spool:
    """The local file that holds a draft's new bytes, at the draft's own offsets (sparse elsewhere)."""

    __slots__ = (
        "_closing",
        "_fd",
        "_held",
        "_known_by",
        "_lock",
        "_lost",
        "_made",
        "_removed",
        "_room",
        "_users",
        "path",
    )

    def __init__(self, path: Path, room: Room | None = None) -> None:
        """Begin with nothing; what is held here is counted in *room*."""
        self.path = path
        self._room = room
        self._held = 0  # bytes counted
        self._lock = threading.Lock()  # for the next three; held for moments, except while a file is opened
        self._fd: int | None = None
        self._users = 0  # calls that use the descriptor now, in any thread
        self._closing = False  # once the last of them is done
        self._removed = False
        self._made = False
        self._lost = False  # somebody else deleted or changed it
        self._known_by: tuple[Ranges, int] | None = None  # looked at when it is opened first

    def expect(self, ranges: Ranges, known_by: int | None) -> None:
        """Take note of what an earlier life wrote; if it is not there, nothing is made up.

        Reading then raises LocalStorageError, since what it would show are bytes that nobody wrote here.
        """
        self._made = True
        self._known_by = (ranges, known_by) if known_by is not None else None
        try:
            status = self.path.lstat()
            self._lost = status.st_size < ranges[-1][1] or not stat.S_ISREG(status.st_mode)
        except OSError:
            self._lost = True

    def restore(self, ranges: Iterable[tuple[int, int]], body: bytes) -> None:
        """Write anew what an earlier life wrote to *ranges*, which follow each other in *body*.

        Where the disk does not take it, what is there counts: `expect` tells.
        """
        with contextlib.suppress(LocalStorageError):
            at = 0
            for start, end in ranges:
                self.write(start, memoryview(body)[at : at + end - start])
                at += end - start
        self.close()

    @property
    def is_lost(self) -> bool:
        """Whether bytes that were written are known to be gone."""
        return self._lost

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        """Lend the open file, which nobody closes meanwhile. Raises LocalStorageError.

        Uploads read in threads of their own while a reader's last close lets go of the file; a number that is
        closed under them may be another file's by then.
        """
        with self._lock:
            fd = self._open()
            self._users += 1
        try:
            yield fd
        finally:
            with self._lock:
                self._users -= 1
                if self._closing and not self._users:
                    self._shut()

    def _open(self) -> int:
        """Return the open file; made at first use with mode 0600. The lock is held."""
        if self._fd is None:
            if self._removed or self._lost:  # opening again would read as zeros what was written
                raise LocalStorageError("the spool file is gone, or not what was written")
            make = 0 if self._made else os.O_CREAT
            try:
                self._fd = os.open(self.path, os.O_RDWR | make | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                self._made = True
                self._look_at(self._fd)
            except OSError as exc:
                raise local_error(exc, "opening the spool") from exc
        return self._fd

    def _look_at(self, fd: int) -> None:
        """Compare the file that was opened with what an earlier life wrote down of it. The lock is held."""
        if self._known_by is None:
            return
        if print_of(fd, self._known_by[0]) != self._known_by[1]:
            self._lost = True
            self._shut()
            raise LocalStorageError("the spool file is not what was written")
        self._known_by = None

    def print(self, ranges: Ranges) -> int | None:
        """Return what the file is to be known by; None where it is gone already. Blocks: call in a thread."""
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = print_of(fd, ranges)
                return found if found >= 0 else None
            finally:
                os.close(fd)
        return None

    def _shut(self) -> None:
        """Close the file. The lock is held."""
        self._closing = False
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def pin(self) -> None:
        """Open the file, so that it can be read when its name is gone. Raises LocalStorageError."""
        with self._lock:
            self._open()
            self._closing = False

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of *data*. Raises OutOfSpace, LocalStorageError."""
        view = memoryview(data)
        try:
            with self._descriptor() as fd:
                while view:
                    done = os.pwrite(fd, view, offset)
                    view, offset = view[done:], offset + done
        except OSError as exc:
            raise local_error(exc, "writing to the spool") from exc

    def read(self, offset: int, size: int) -> bytes:
        """Read exactly *size* bytes, all of them written before. Raises LocalStorageError."""
        try:
            with self._descriptor() as fd:
                data = os.pread(fd, size, offset)
                while len(data) < size:
                    more = os.pread(fd, size - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
        except OSError as exc:
            raise local_error(exc, "reading the spool") from exc
        if len(data) < size:
            raise LocalStorageError("the spool file was cut")
        return data

    def has_hole(self, start: int, end: int) -> bool:
        """Say whether some of [start, end) was never written, or given back. Raises LocalStorageError."""
        try:
            with self._descriptor() as fd:
                return os.lseek(fd, start, os.SEEK_HOLE) < end
        except OSError as exc:
            raise local_error(exc, "reading the spool") from exc

    def truncate(self, size: int) -> None:
        """Forget bytes from *size* on, so that growing again shows zeros."""
        try:
            with self._descriptor() as fd:
                os.ftruncate(fd, size)
        except OSError as exc:
            raise local_error(exc, "truncating the spool") from exc

    def sync(self) -> bool:
        """Wait until the disk has it. Blocks: call in a thread (it uses a descriptor of its own).

        Raises LocalStorageError; for a file that somebody deleted only once, as others wait for the disk too.
        Then, and where the draft was dropped meanwhile, it returns False.
        """
        if self._lost:
            return False
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            if self._removed:
                return False
            self._lost = True
            raise LocalStorageError("the spool file is gone") from None
        except OSError as exc:
            raise local_error(exc, "syncing the spool") from exc
        return True

    def copy_range_from(self, other: "Spool", start: int, end: int) -> None:
        """Copy bytes [start, end) of another spool to the same place here. Blocks: call in a thread."""
        try:
            with other._descriptor() as source, self._descriptor() as target:
                while start < end:
                    done = os.copy_file_range(source, target, end - start, start, start)
                    if not done:
                        raise LocalStorageError("copying in the spool: it ends too early")
                    start += done
        except OSError as exc:
            raise local_error(exc, "copying in the spool") from exc

    def hold(self, size: int) -> None:
        """Take note of how many bytes are here."""
        if self._room is not None and not self._removed:
            self._room.change(size - self._held)
        self._held = size

    def leave_room(self) -> None:
        """Count no more: these bytes wait for nothing, since they will never be sent."""
        self.hold(0)
        self._room = None

    def punch(self, start: int, end: int) -> None:
        """Give [start, end) back to the disk; it must not be read again. Blocks. Raises LocalStorageError."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _libc.fallocate64(fd, _PUNCH_HOLE_KEEP_SIZE, start, end - start):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(fd)
        except FileNotFoundError:
            return  # the draft was dropped meanwhile
        except OSError as exc:
            raise local_error(exc, "making room in the spool") from exc

    def close(self) -> None:
        """Close the file, after the calls that use it now; reading opens it again."""
        with self._lock:
            if self._removed:
                return
            if self._users:
                self._closing = True
            else:
                self._shut()

    def remove(self) -> None:
        """Delete the file; who still reads it through an open handle may go on until the spool is dropped."""
        self.hold(0)
        with self._lock:
            self._removed = True
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


class Draft:
    """Content on its way to B2.

    `base` is what the extents' BASE bytes come from; a draft there turns into its version once it is sent.
    `result` is the version that B2 made of this draft.
    """

    __slots__ = (
        "attributes",
        "base",
        "content_type",
        "extents",
        "frozen",
        "id",
        "interim",
        "keep",
        "large",
        "pinned",
        "result",
        "spool",
        "stream_at",
        "torn",
        "written_ns",
    )

    def __init__(
        self,
        draft_id: int,
        spool: Spool,
        *,
        attributes: Attributes,
        base: "FileVersion | Draft | None" = None,
        extents: Extents | None = None,
        content_type: str = AUTOMATIC_CONTENT_TYPE,
        keep: Mapping[str, str] | None = None,
    ) -> None:
        self.id = draft_id
        self.spool = spool
        self.attributes = attributes
        self.base = base
        self.extents = extents if extents is not None else Extents(size_of(base) if base is not None else 0)
        self.content_type = content_type
        self.keep: Mapping[str, str] = keep or {}
        self.frozen = False
        self.result: FileVersion | None = None
        self.large: LargeFile | None = None  # that it is being sent as
        self.interim: LargeFile | None = None  # finished; has the content, and not yet name and attributes
        self.torn = False  # some of its bytes have left the spool
        self.pinned = False  # read through an open file that has no name any more: it must get to B2
        self.stream_at = math.inf  # written bytes at which to look again whether it can be sent meanwhile
        self.written_ns: int | None = None  # when it was last written to, where that sets the mtime

    @property
    def size(self) -> int:
        return self.extents.size

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Take new bytes. Raises OutOfSpace, LocalStorageError; then nothing is marked as written."""
        assert not self.frozen, "a frozen draft takes no writes"
        if data:
            self.spool.write(offset, data)
            self.extents.write(offset, offset + len(data))
            self.count()

    def settle_mtime(self) -> None:
        """Let the moment of the last write become the attributes' mtime and ctime."""
        if self.written_ns is not None:
            self.attributes = replace(self.attributes, mtime_ns=self.written_ns, ctime_ns=self.written_ns)
            self.written_ns = None

    def resize(self, size: int) -> None:
        """Truncate or extend."""
        assert not self.frozen, "a frozen draft keeps its size"
        if size < self.extents.size and self.extents.dirty_bytes:
            self.spool.truncate(size)
        self.extents.resize(size)
        self.count()

    def count(self) -> None:
        """Tell the spool how many bytes it holds."""
        self.spool.hold(self.extents.dirty_bytes - self.away_bytes)

    def resolve_base(self) -> "FileVersion | Draft | None":
        """Return the base, taking a sent draft for the version it became."""
        while isinstance(self.base, Draft) and self.base.result is not None:
            self.base = self.base.result
        return self.base

    @property
    def away_bytes(self) -> int:
        """How many of the new bytes have left the spool, since B2 has them."""
        if self.interim is not None:
            return self.interim.away_bytes
        return 0 if self.large is None else self.large.away_bytes

    @property
    def only_metadata(self) -> bool:
        """Whether the content is exactly the base's."""
        return self.base is not None and self.extents.is_untouched


def size_of(content: FileVersion | Draft) -> int:
    """Return the length in bytes of a version or a draft."""
    return content.size


def local_segments(draft: Draft, start: int, end: int) -> list[tuple[Segment, "Draft | FileVersion | None"]]:
    """Split [start, end) of a draft into runs, each with the draft or version that holds its bytes.

    NEW runs name the draft whose spool has them, BASE runs the version to fetch from, ZERO runs None.
    """
    runs: list[tuple[Segment, Draft | FileVersion | None]] = []
    for segment in draft.extents.segments(start, end):
        if segment.origin is Origin.NEW:
            is_away = draft.torn and draft.interim is not None
            runs.append((segment, draft.interim.version if is_away and draft.interim else draft))
        elif segment.origin is Origin.ZERO:
            runs.append((segment, None))
        else:
            base = draft.resolve_base()
            if isinstance(base, Draft):
                runs.extend(local_segments(base, segment.start, segment.end))
            else:
                runs.append((segment, base))
    return runs


def lacking(content: Draft, start: int, end: int) -> Draft | None:
    """Return a draft that has let go of bytes which [start, end) of *content* shows, and no version has."""
    for segment, holder in local_segments(content, start, end):
        if segment.origin is Origin.NEW and isinstance(holder, Draft) and holder.torn:
            large = holder.large
            if large is None or large.is_away(segment.start, segment.end):
                return holder
    return None
