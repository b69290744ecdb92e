"""Write what was left unsent as plain files, with the names and attributes that the mount would have shown.

Nothing is written outside the directory given, whatever names and links say: every component is escaped as
the mount escapes it (core/names.py), and files are only ever made anew. What cannot be a file (removals,
renames of what B2 holds) goes into a report. Knows no store: bytes of B2 come from a function.
"""

import contextlib
import errno
import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from b2mount.core.errors import B2MountError, LocalStorageError
from b2mount.core.extents import Origin
from b2mount.core.names import is_placeholder, shown, split
from b2mount.core.posix import Attributes
from b2mount.core.posix import Kind as FileKind
from b2mount.core.words import show_count
from b2mount.journal.drafts import Draft, local_error, local_segments
from b2mount.journal.leftover import Away, Leftover, has_content, ranges_in_b2, split_away
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import FileVersion

FILES = "files"
STRAYS = "spool"
REPORT = "report.txt"
PIECE = 8 << 20  # bytes moved at a time

Fetch = Callable[[str, int, int], bytes | bytearray]  # file ID, start, end
Progress = Callable[[int, int], None]  # files and bytes left


@dataclass(slots=True)
class Exported:
    """What came of it."""

    written: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)  # written, with zeros where bytes are missing
    missing: list[str] = field(default_factory=list)  # not written
    report: Path = Path()

    @property
    def is_whole(self) -> bool:
        return not (self.incomplete or self.missing)


def export(
    left: Leftover, target: Path, fetch: Fetch | None, *, incomplete: bool, progress: Progress
) -> Exported:
    """Write files under *target*, which must be empty or not there; return what came of it.

    *fetch* reads bytes of B2; where it is None or fails, a file that needs them is not written, unless
    *incomplete* asks for it with zeros in their place. Blocks. Raises LocalStorageError where *target* cannot
    be used.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise LocalStorageError(f"{target} is not empty; name a directory that is, or a new one")
        return _Export(left, target, fetch, incomplete, progress).run()
    except OSError as exc:
        raise local_error(exc, f"writing to {target}") from exc


def final_ops(left: Leftover) -> list[Op]:
    """Return the last operation on each name, in order: what the names were to hold in the end."""
    last = {op.key: op for op in left.ops}
    return [op for op in left.ops if last[op.key] is op]


class _Export:
    def __init__(
        self, left: Leftover, target: Path, fetch: Fetch | None, incomplete: bool, progress: Progress
    ) -> None:
        self._left = left
        self._target = target
        self._fetch = fetch
        self._incomplete = incomplete
        self._progress = progress
        self._done = Exported(report=target / REPORT)
        self._notes: list[str] = []
        self._directories: dict[Path, Attributes] = {}

    def run(self) -> Exported:
        ops = [op for op in final_ops(self._left) if op.kind is Kind.PUT and has_content(op)]
        self._twins = {parent for op in ops for parent in self._ancestors(op)}
        waiting = sum(op.draft.size for op in ops if op.draft is not None)
        for number, op in enumerate(ops):
            assert op.draft is not None
            self._progress(len(ops) - number, waiting)
            waiting -= op.draft.size
            self._write(op, op.draft)
        for stray in self._left.strays:
            place = self._target / STRAYS
            place.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(stray.path, place / stray.path.name, follow_symlinks=False)
        for path in sorted(self._directories, key=lambda path: len(path.parts), reverse=True):
            self._describe(path, self._directories[path])
        self._done.report.write_text("\n".join(self._report()) + "\n", errors="backslashreplace")
        return self._done

    # --- names -------------------------------------------------------------------------------------------

    def _components(self, op: Op) -> list[str]:
        return [self._left.bucket_name(op.bucket_id), *split(op.name)]

    def _ancestors(self, op: Op) -> list[tuple[str, ...]]:
        parts = self._components(op)
        return [tuple(parts[:end]) for end in range(1, len(parts))]

    def _path(self, op: Op) -> Path:
        *above, last = self._components(op)
        is_twin = (*above, last) in self._twins
        return self._target.joinpath(FILES, *map(shown, above), shown(last, twin=is_twin))

    def _called(self, op: Op) -> str:
        return f"{self._left.bucket_name(op.bucket_id)}/{op.name}"

    # --- one file ----------------------------------------------------------------------------------------

    def _write(self, op: Op, draft: Draft) -> None:
        name, path = self._called(op), self._path(op)
        try:
            if is_placeholder(split(op.name)[-1], draft.size):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._directories[path.parent] = draft.attributes
                self._done.written.append(name)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write_as(op, draft, path)
        except OSError as exc:
            if exc.errno not in (errno.ENAMETOOLONG, errno.EILSEQ):
                raise
            path = self._target / STRAYS / f"change-{op.id}"
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._notes.append(f"{name}: a name that this disk cannot hold; it is {path}")
            self._write_as(op, draft, path)

    def _write_as(self, op: Op, draft: Draft, path: Path) -> None:
        name = self._called(op)
        if draft.attributes.kind is not FileKind.FILE:
            self._make_special(name, draft.attributes, path)
            return
        lacking = ranges_in_b2(draft) if self._fetch is None else []
        if lacking and not self._incomplete:
            self._done.missing.append(f"{name}: {_ranges(lacking)} lie in B2 alone")
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            lost = self._write_content(fd, draft)
        finally:
            os.close(fd)
        if lost and not self._incomplete:
            path.unlink()
            self._done.missing.append(f"{name}: {'; '.join(lost)}")
            return
        if lost:
            self._done.incomplete.append(f"{name}: zeros instead of {'; '.join(lost)}")
        else:
            self._done.written.append(name)
        self._describe(path, draft.attributes)

    def _write_content(self, fd: int, draft: Draft) -> list[str]:
        """Write all bytes that can be had; return what could not be."""
        os.ftruncate(fd, draft.size)
        lost: list[str] = []
        for segment, holder in local_segments(draft, 0, draft.size):
            away = self._left.away.get(holder.id, []) if isinstance(holder, Draft) else []
            for start, end, one in split_away(away, segment.start, segment.end):
                if one is not None:
                    failed = self._copy(fd, functools.partial(self._sent_bytes, one), start, end)
                else:
                    failed = self._copy(
                        fd, functools.partial(self._bytes, segment.origin, holder), start, end
                    )
                lost += [failed] if failed else []
        return lost

    def _copy(
        self, fd: int, read: Callable[[int, int], bytes | bytearray], start: int, end: int
    ) -> str | None:
        """Write bytes [start, end); return what could not be had, and why."""
        for low in range(start, end, PIECE):
            try:
                data = read(low, min(low + PIECE, end))
            except B2MountError as exc:
                return f"bytes {low} to {end} ({exc})"
            if data:
                os.pwrite(fd, data, low)
        return None

    def _sent_bytes(self, away: Away, start: int, end: int) -> bytes | bytearray:
        """Return bytes that left the spool: B2 gives them once their large file is finished, not before."""
        where = f"sent already, as parts of large file {away.file_id}"
        if self._fetch is None or away.file_id is None:
            raise LocalStorageError(f"{where}; they lie in B2 alone")
        try:
            return self._fetch(away.file_id, start, end)
        except B2MountError as exc:
            raise LocalStorageError(f"{where}: {exc}; if it is not finished, --upload finishes it") from exc

    def _bytes(
        self, origin: Origin, holder: Draft | FileVersion | None, start: int, end: int
    ) -> bytes | bytearray:
        if origin is Origin.ZERO:
            return b""  # the file has a hole there already
        if isinstance(holder, Draft):
            if not self._left.away_is_known and holder.spool.has_hole(start, end):
                raise LocalStorageError("not in the spool; perhaps sent already")
            return holder.spool.read(start, end - start)
        if isinstance(holder, FileVersion) and self._fetch is not None:
            return self._fetch(holder.file_id, start, end)
        raise LocalStorageError("they lie in B2 alone")

    def _make_special(self, name: str, attributes: Attributes, path: Path) -> None:
        try:
            if attributes.kind is FileKind.SYMLINK:
                path.symlink_to(attributes.target or "")
            else:
                mode = attributes.kind.value | (0o600 if attributes.mode is None else attributes.mode)
                os.mknod(path, mode, attributes.rdev)
        except OSError as exc:
            self._done.missing.append(f"{name}: {attributes.kind.name.lower()}: {exc.strerror}")
            return
        self._done.written.append(name)
        self._describe(path, attributes)

    def _describe(self, path: Path, attributes: Attributes) -> None:
        """Set times, mode, owner and extended attributes; what this disk or user cannot is noted."""
        is_link = attributes.kind is FileKind.SYMLINK
        for name, value in attributes.xattrs.items():
            try:
                os.setxattr(path, name, value, follow_symlinks=False)
            except OSError as exc:
                self._notes.append(f"{path}: attribute {name} is not set: {exc.strerror}")
        if os.geteuid() == 0 and (attributes.uid is not None or attributes.gid is not None):
            with contextlib.suppress(OSError):
                os.chown(path, _id(attributes.uid), _id(attributes.gid), follow_symlinks=False)
        if attributes.mode is not None and not is_link:
            path.chmod(attributes.mode)
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns), follow_symlinks=False)

    # --- the report --------------------------------------------------------------------------------------

    def _report(self) -> list[str]:
        left, done = self._left, self._done
        lines = [f"From {left.directory}: {show_count(len(left.ops), 'change')} not sent to B2."]
        lines += _section("Written as files", done.written)
        lines += _section("Written with parts missing", done.incomplete)
        lines += _section("Not written", done.missing)
        lines += _section("To be removed in B2, and not removed yet", self._removals())
        lines += _section("Names and attributes for content that B2 holds already", self._copies())
        strays = [f"{STRAYS}/{one.path.name}{f', of {one.name}' if one.name else ''}" for one in left.strays]
        lines += _section("Spool files that no change names: written, never closed; or else lost", strays)
        lines += _section("What could not be read", left.damage)
        return lines + _section("Notes", self._notes)

    def _removals(self) -> list[str]:
        names = {op.id: self._called(op) for op in self._left.ops}
        lines = []
        for op in final_ops(self._left):
            if op.kind is Kind.HIDE:
                behind = [names[other] for other in sorted(op.after) if other in names]
                lines.append(self._called(op) + (f", renamed to {', '.join(behind)}" if behind else ""))
        return lines

    def _copies(self) -> list[str]:
        lines = []
        for op in final_ops(self._left):
            if op.draft is not None and not has_content(op):
                version = op.draft.resolve_base()
                if isinstance(version, FileVersion):
                    held = f"{version.name} ({version.file_id})"
                    lines.append(f"{self._called(op)}, whose content is that of {held}")
        return lines


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _ranges(lacking: list[tuple[int, int, FileVersion]]) -> str:
    shown_ranges = [f"{start} to {end} of {version.file_id}" for start, end, version in lacking[:5]]
    more = f" and {len(lacking) - 5} ranges more" if len(lacking) > 5 else ""
    return f"bytes {', '.join(shown_ranges)}{more}"


def _id(number: int | None) -> int:
    return -1 if number is None else number
