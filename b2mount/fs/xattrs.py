"""Extended attributes: the user's own, kept in the file info, and `user.b2.*`, which tells what B2 holds.

`user.b2.*` is answered to who asks for it by name, and is not listed: rsync -X, cp -a and tar --xattrs would
carry the values of one copy to another and fail to set or remove them there.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

from b2mount.core.errors import (
    AttributesTooLarge,
    InvalidArgument,
    NoSuchAttribute,
    NotPermitted,
    NotSupported,
)
from b2mount.core.posix import MTIME_NAME, OWN_NAME, Attributes
from b2mount.fs.commits import Commits
from b2mount.fs.locks import Locks
from b2mount.fs.nodes import DirectoryNode, FileNode, Node
from b2mount.fs.stats import Stats
from b2mount.fs.world import World
from b2mount.store.store import FileVersion

B2_PREFIX = "user.b2."
CONTROL = "user.b2mount.control"  # on the root: the path of the mount's control socket
# The same. The kernel shows "user." to who may read the root, as nobody may whose key has expired, or reads
# nothing; of "system." it leaves the decision to us. Source: xattr(7).
CONTROL_FOR_PROGRAMS = "system.b2mount.control"
RETENTION = "user.b2.retention"  # core/locks.py says how both are written
LEGAL_HOLD = "user.b2.legal_hold"
MAX_NAME = 255  # bytes: XATTR_NAME_MAX of Linux
MAX_VALUE = 65536  # bytes: XATTR_SIZE_MAX of Linux


class Xattrs:
    """getxattr(2) and its kin."""

    def __init__(self, world: World, stats: Stats, commits: Commits, locks: Locks, control_path: str) -> None:
        self._world = world
        self._locks = locks
        self._stats = stats
        self._commits = commits
        self._control_path = control_path

    async def get(self, node: Node, name: str) -> bytes:
        """Return an attribute's value. Raises NoSuchAttribute, NotSupported outside the user namespace."""
        if name in (CONTROL, CONTROL_FOR_PROGRAMS) and node.parent is None:
            return os.fsencode(self._control_path)
        if not name.startswith("user."):
            raise NotSupported(f"{name}: only attributes of the user namespace are kept")
        if isinstance(node, FileNode) and name in (RETENTION, LEGAL_HOLD):
            return self._locks.retention(node) if name == RETENTION else self._locks.legal_hold(node)
        if name.startswith(B2_PREFIX):
            found = dict(self._of_version(node)).get(name)
        else:
            found = (await self._attributes(node)).xattrs.get(name)
        if found is None:
            raise NoSuchAttribute(name)
        return found

    async def list(self, node: Node) -> list[str]:
        """Return the names of the user's own attributes; of what strangers wrote, those that can be read."""
        return [name for name in (await self._attributes(node)).xattrs if _is_readable(name)]

    async def set(self, node: Node, name: str, value: bytes) -> None:
        """Set an attribute; it is in the journal at return.

        Retention and legal hold are B2's at return. Raises NotSupported outside the user namespace,
        NotPermitted for what B2 tells, AttributesTooLarge.
        """
        if isinstance(node, FileNode) and name in (RETENTION, LEGAL_HOLD):
            await self._set_lock(node, name, value.decode("utf-8", "replace"))
            return
        self._demand_writable(node, name)
        if len(value) > MAX_VALUE:
            raise AttributesTooLarge(f"{name}: more than {MAX_VALUE} bytes")
        attributes = await self._attributes(node)
        await self._store(node, replace(attributes, xattrs={**attributes.xattrs, name: bytes(value)}))

    async def remove(self, node: Node, name: str) -> None:
        """Remove an attribute. Raises NoSuchAttribute."""
        if isinstance(node, FileNode) and name in (RETENTION, LEGAL_HOLD):
            self._locks.demand_settable(node, retention=name == RETENTION)
            if self._locks.can_read(retention=name == RETENTION):
                await self.get(node, name)  # there is none: ENODATA, and nothing is sent
            await self._set_lock(node, name, "none" if name == RETENTION else "off")
            return
        self._demand_writable(node, name)
        attributes = await self._attributes(node)
        if name not in attributes.xattrs:
            raise NoSuchAttribute(name)
        left = {key: value for key, value in attributes.xattrs.items() if key != name}
        await self._store(node, replace(attributes, xattrs=left))

    async def _set_lock(self, node: FileNode, name: str, text: str) -> None:
        if name == RETENTION:
            await self._locks.set_retention(node, text)
        else:
            await self._locks.set_legal_hold(node, text)

    def _demand_writable(self, node: Node, name: str) -> None:
        if not name.startswith("user."):
            raise NotSupported(f"{name}: only attributes of the user namespace are kept")
        if name == "user.":
            raise InvalidArgument("an attribute needs a name")
        if name.startswith(B2_PREFIX) or name == CONTROL:
            raise NotPermitted(f"{name}: told by B2, not set")

    async def _attributes(self, node: Node) -> Attributes:
        if isinstance(node, FileNode):
            return node.attributes
        assert isinstance(node, DirectoryNode)
        attributes, _ = await self._stats.directory_attributes(node)
        return attributes

    async def _store(self, node: Node, attributes: Attributes) -> None:
        if isinstance(node, FileNode):
            self._commits.set_attributes(node, attributes)
        else:
            assert isinstance(node, DirectoryNode)
            self._commits.set_directory_attributes(node, attributes)
        await self._world.journal.commit()

    def _of_version(self, node: Node) -> Iterator[tuple[str, bytes]]:
        """Yield what B2 tells of a stored version."""
        if not isinstance(node, FileNode) or not isinstance(node.current, FileVersion):
            return
        version = node.current
        facts = {
            "file_id": version.file_id,
            "sha1": version.sha1,
            "content_type": version.content_type,
            "uploaded": str(version.uploaded_ms),
        }
        for key, text in facts.items():
            if text:
                yield B2_PREFIX + key, text.encode()
        for key, text in version.info.items():
            if key not in (OWN_NAME, MTIME_NAME):
                yield f"{B2_PREFIX}info.{key}", text.encode("utf-8", "surrogateescape")


def _is_readable(name: str) -> bool:
    """Whether getxattr(2) of a stored attribute's name answers with what is stored."""
    return name.startswith("user.") and not name.startswith(B2_PREFIX) and len(os.fsencode(name)) <= MAX_NAME
