"""Object Lock through the file system: what holds a version, and setting retention and legal hold.

A lock belongs to one version. B2 never refuses a new version, nor hiding the name: so writing, renaming and
unlink go on with a locked file, whose locked version stays where it is. Refused are deleting the version
(--hard-delete) and weakening its retention.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import trio
from cachetools import TTLCache

from b2mount.core.access import Operation
from b2mount.core.errors import HeldByLock, InvalidArgument, NoSuchAttribute, NotPermitted, NotSupported
from b2mount.core.grant import Capability
from b2mount.core.locks import (
    format_legal_hold,
    format_retention,
    parse_legal_hold,
    parse_retention,
    weakens,
)
from b2mount.fs.commits import Commits
from b2mount.fs.nodes import Content, FileNode
from b2mount.fs.world import World
from b2mount.store.store import FileVersion, Retention

ASK_AGAIN_SECONDS = 600.0  # whether a bucket has Object Lock, which its owner may turn on; a guess


class Locks:
    """Retention and legal hold of stored files."""

    def __init__(self, world: World, commits: Commits) -> None:
        self._world = world
        self._commits = commits
        self._without: TTLCache[str, bool] = TTLCache(1000, ASK_AGAIN_SECONDS, timer=trio.current_time)

    # --- telling -----------------------------------------------------------------------------------------

    def retention(self, node: FileNode) -> bytes:
        """Return what `user.b2.retention` shows. Raises NoSuchAttribute, AccessDenied."""
        self._world.demand(Operation.READ_RETENTION, node.name)
        version = node.current
        if not isinstance(version, FileVersion) or version.retention is None:
            raise NoSuchAttribute("no retention")
        return format_retention(version.retention.mode, version.retention.until_ms).encode()

    def legal_hold(self, node: FileNode) -> bytes:
        """Return what `user.b2.legal_hold` shows. Raises NoSuchAttribute, AccessDenied."""
        self._world.demand(Operation.READ_LEGAL_HOLD, node.name)
        version = node.current
        if not isinstance(version, FileVersion) or version.legal_hold is None:
            raise NoSuchAttribute("no legal hold")
        return format_legal_hold(version.legal_hold).encode()

    def demand_deletable(self, contents: Sequence[Content]) -> None:
        """Raise HeldByLock where --hard-delete would delete a version that is known to be held."""
        if not self._world.options.hard_delete:
            return
        now_ms = self._world.server_ms()
        for content in contents:
            if isinstance(content, FileVersion) and content.is_held(now_ms, bypass=self._bypass):
                raise HeldByLock(f"{content.name}: {self._why_held(content)}")

    @property
    def _bypass(self) -> bool:
        return self._world.options.bypass_governance

    def _why_held(self, version: FileVersion) -> str:
        if version.legal_hold:
            return "held by a legal hold"
        assert version.retention is not None
        return f"held by retention: {format_retention(version.retention.mode, version.retention.until_ms)}"

    # --- setting -----------------------------------------------------------------------------------------

    def can_read(self, *, retention: bool) -> bool:
        """Say whether the key may see what is set now."""
        return self._world.grant.has(
            Capability.READ_FILE_RETENTIONS if retention else Capability.READ_FILE_LEGAL_HOLDS
        )

    def demand_settable(self, node: FileNode, *, retention: bool) -> None:
        """Raise what the access table answers to a change of retention, or of legal hold, if it refuses."""
        self._world.demand(Operation.SET_RETENTION if retention else Operation.SET_LEGAL_HOLD, node.name)

    async def set_retention(self, node: FileNode, text: str) -> None:
        """Set or remove the retention of what is stored; what is written is sent first.

        Raises InvalidArgument, NotPermitted, HeldByLock, NotSupported for a bucket without Object Lock.
        """
        self._world.demand(Operation.SET_RETENTION, node.name)
        wanted = parse_retention(text)
        if wanted is not None and wanted[1] <= self._world.server_ms():
            raise InvalidArgument("retention must end in the future")
        version = await self._stored(node)
        bypass = self._must_bypass(version, wanted)
        retention = None if wanted is None else Retention(*wanted)
        with self._remembering(node.bucket_id):
            await self._world.store.set_retention(
                version.name, version.file_id, retention, bypass_governance=bypass
            )
        self._take_note(node, replace(version, retention=retention))

    async def set_legal_hold(self, node: FileNode, text: str) -> None:
        """Set or lift the legal hold of what is stored; what is written is sent first."""
        self._world.demand(Operation.SET_LEGAL_HOLD, node.name)
        on = parse_legal_hold(text)
        version = await self._stored(node)
        with self._remembering(node.bucket_id):
            await self._world.store.set_legal_hold(version.name, version.file_id, on)
        self._take_note(node, replace(version, legal_hold=on))

    def _must_bypass(self, version: FileVersion, wanted: tuple[str, int] | None) -> bool:
        """Say whether a change needs the bypass of governance. Raises HeldByLock where none may help."""
        now = version.retention
        if not self.can_read(retention=True):
            return self._bypass  # what is in force is not known here: B2 decides
        if now is None or now.until_ms <= self._world.server_ms():
            return False
        if not weakens(now.mode, now.until_ms, wanted):
            return False
        held = f"{version.name}: {self._why_held(replace(version, legal_hold=None))}"
        if now.mode == "compliance":
            raise HeldByLock(f"{held}, which nobody can shorten")
        if not self._bypass:
            raise HeldByLock(f"{held}, shortened only with --bypass-governance")
        self._world.demand(Operation.BYPASS_GOVERNANCE, version.name)
        return True

    @contextlib.contextmanager
    def _remembering(self, bucket_id: str) -> Iterator[None]:
        """Ask a bucket that has no Object Lock once in a while only. Raises NotSupported."""
        if bucket_id in self._without:
            raise NotSupported("the bucket has no Object Lock")
        try:
            yield
        except NotSupported:
            self._without[bucket_id] = True
            raise

    async def _stored(self, node: FileNode) -> FileVersion:
        await self._commits.sync(node)
        version = node.current
        if node.gone or not isinstance(version, FileVersion):
            raise NotPermitted("only a file that B2 holds can be locked")
        return version

    def _take_note(self, node: FileNode, version: FileVersion) -> None:
        """Show what was set, here and in listings told before."""
        current = node.current
        if isinstance(current, FileVersion) and current.file_id == version.file_id and not node.gone:
            node.content = version
            self._world.overlay.set(node.bucket_id, node.name, version)
            self._world.overlay.settle(node.bucket_id, node.name)
