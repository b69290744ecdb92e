"""The kernel's door: pyfuse3's handlers; each translates, calls the file system, and translates back.

The one place where our errors become errno values, and where a bug is kept from ending the mount for all:
pyfuse3 expects FUSEError alone, so anything else is logged with its traceback and answered with EIO.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence

import pyfuse3

from b2mount.core.errors import B2MountError, NoSuchFile, errno_of
from b2mount.fs.filesystem import DOTS, NEGATIVE_TIMEOUT, Caller, Entry, FileSystem, PlainFiles, Wanted
from b2mount.fs.stats import Stat

log = logging.getLogger("b2mount.fuse")

STATFS_BLOCK = 4096  # bytes
STATFS_BLOCKS = 1 << 38  # of those: a petabyte, since B2 sets no limit and programs want a number
# Everyday answers; the last one cp -a and rsync -A hear for every file, as they offer an ACL.
EXPECTED = frozenset([errno.ENOENT, errno.ENODATA, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTSUP])


@contextlib.contextmanager
def errno_at_the_door(operation: str) -> Iterator[None]:
    """Turn our errors into the errno that the kernel will see; nothing else in b2mount does."""
    try:
        yield
    except B2MountError as exc:
        number = errno_of(exc)
        if number not in EXPECTED:
            log.info("%s: %s (%s)", operation, exc, errno.errorcode.get(number, str(number)))
        raise pyfuse3.FUSEError(number) from exc
    except pyfuse3.FUSEError:
        raise
    except Exception:
        log.exception("%s: a bug, answered with EIO", operation)
        raise pyfuse3.FUSEError(errno.EIO) from None


def entry_attributes(stat: Stat) -> pyfuse3.EntryAttributes:
    """Translate our numbers into pyfuse3's."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = stat.ino
    entry.st_mode = stat.mode
    entry.st_nlink = stat.nlink
    entry.st_uid = stat.uid
    entry.st_gid = stat.gid
    entry.st_rdev = stat.rdev
    entry.st_size = stat.size
    entry.st_blksize = 128 << 10
    entry.st_blocks = (stat.size + 511) // 512
    entry.st_atime_ns = stat.atime_ns
    entry.st_mtime_ns = stat.mtime_ns
    entry.st_ctime_ns = stat.ctime_ns
    entry.entry_timeout = stat.entry_timeout
    entry.attr_timeout = stat.attr_timeout
    return entry


def _reply_plain_files(token: pyfuse3.ReaddirToken, stretch: PlainFiles) -> tuple[int, bool]:
    """Put files into a reply; return the offset that follows the last, and whether there was no more room.

    One object of pyfuse3's for all of them, and no call besides its own: a million names come by here.
    """
    reply, entry, told = pyfuse3.readdir_reply, entry_attributes(stretch.common), 0
    for name, ino, size, mtime_ns, ctime_ns, next_offset in stretch.files:
        entry.st_ino = ino
        entry.st_size = size
        entry.st_blocks = (size + 511) >> 9
        entry.st_atime_ns = mtime_ns
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = ctime_ns
        if not reply(token, name, entry, next_offset + DOTS):
            return told, True
        told = next_offset + DOTS
    return told, False


def _file_info(number: int) -> pyfuse3.FileInfo:
    # A version never changes and local writes go through the kernel's pages, so they may be kept.
    return pyfuse3.FileInfo(fh=number, keep_cache=True)


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid)


class Door(pyfuse3.Operations):
    """The handlers. See pyfuse3's documentation of `Operations` for what each is asked."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self, fs: FileSystem, negative_timeout: float, on_init: Callable[[], None] = lambda: None
    ) -> None:
        """Serve *fs*; *on_init* is called as the kernel's first request is answered."""
        super().__init__()
        self._on_init = on_init
        self._fs = fs
        self._negative_timeout = min(negative_timeout, NEGATIVE_TIMEOUT)

    def init(self) -> None:
        self._on_init()

    # --- names -------------------------------------------------------------------------------------------

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("lookup"):
            try:
                return entry_attributes(await self._fs.lookup(parent_inode, name))
            except NoSuchFile as exc:
                seconds = min(self._negative_timeout, self._fs.missing_for(parent_inode, name, exc))
                if seconds <= 0:
                    raise
                missing = pyfuse3.EntryAttributes()
                missing.st_ino = 0  # "no such entry, and remember it"
                missing.entry_timeout = seconds
                return missing

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        with errno_at_the_door("forget"):
            self._fs.forget(inode_list)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        with errno_at_the_door("create"):
            number, stat = await self._fs.create(parent_inode, name, mode, flags, _caller(ctx))
            return _file_info(number), entry_attributes(stat)

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("mknod"):
            return entry_attributes(await self._fs.mknod(parent_inode, name, mode, rdev, _caller(ctx)))

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("mkdir"):
            return entry_attributes(await self._fs.mkdir(parent_inode, name, mode, _caller(ctx)))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("symlink"):
            return entry_attributes(await self._fs.symlink(parent_inode, name, target, _caller(ctx)))

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with errno_at_the_door("unlink"):
            await self._fs.unlink(parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with errno_at_the_door("rmdir"):
            await self._fs.rmdir(parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        with errno_at_the_door("rename"):
            await self._fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("link"):
            self._fs.link()
        raise AssertionError("link always refuses")

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        with errno_at_the_door("readlink"):
            return self._fs.readlink(inode)

    # --- attributes --------------------------------------------------------------------------------------

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        with errno_at_the_door("getattr"):
            return entry_attributes(await self._fs.getattr(inode))

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        wanted = Wanted(
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode & 0o7777 if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        with errno_at_the_door("setattr"):
            return entry_attributes(await self._fs.setattr(inode, wanted, fh))

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        with errno_at_the_door("access"):
            return await self._fs.access(inode, mode)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if name.startswith((b"security.", b"system.posix_acl_", b"trusted.")):
            # At once: ls asks for ACLs and security labels file by file, and the kernel at every write. The
            # answer that there are none on this file system, not just on this file, lets ls ask no more.
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        with errno_at_the_door("getxattr"):
            return await self._fs.getxattr(inode, name)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        with errno_at_the_door("listxattr"):
            return await self._fs.listxattr(inode)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        with errno_at_the_door("setxattr"):
            await self._fs.setxattr(inode, name, value)

    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        with errno_at_the_door("removexattr"):
            await self._fs.removexattr(inode, name)

    # --- files -------------------------------------------------------------------------------------------

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        with errno_at_the_door("open"):
            return _file_info(self._fs.open(inode, flags))

    async def read(  # type: ignore[override]  # any buffer will do, and a view saves a copy
        self, fh: int, off: int, size: int
    ) -> bytes | memoryview:
        with errno_at_the_door("read"):
            data = self._fs.files.read_now(fh, off, size)
            return data if data is not None else await self._fs.files.read(fh, off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        with errno_at_the_door("write"):
            if self._fs.files.must_wait(fh, len(buf)):
                await self._fs.files.pressure.wait_for_room(len(buf))
            written = self._fs.files.write(fh, off, buf)
            if self._fs.files.handle(fh).synchronous:
                await self._fs.files.fsync(fh)
            return written

    async def flush(self, fh: int) -> None:
        with errno_at_the_door("flush"):
            await self._fs.files.flush(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        with errno_at_the_door("fsync"):
            await self._fs.files.fsync(fh)

    async def release(self, fh: int) -> None:
        with errno_at_the_door("release"):
            await self._fs.files.release(fh)

    # --- directories -------------------------------------------------------------------------------------

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        with errno_at_the_door("opendir"):
            return self._fs.opendir(inode)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        with errno_at_the_door("readdir"):
            begun = False
            while not begun:  # what is known goes out before the next page is waited for
                for entry in self._fs.entries(fh, start_id):
                    if isinstance(entry, PlainFiles):
                        told, is_full = _reply_plain_files(token, entry)
                    else:
                        told, is_full = self._reply_entry(token, entry)
                    if is_full:
                        return
                    start_id, begun = told or start_id, begun or told > 0
                if not begun and not await self._fs.more_entries(fh):
                    return

    def _reply_entry(self, token: pyfuse3.ReaddirToken, entry: Entry) -> tuple[int, bool]:
        """Put one entry into a reply; return the offset that follows it, and whether there was no room."""
        name, node, stat, next_id = entry
        if not pyfuse3.readdir_reply(token, name, entry_attributes(stat), next_id):
            self._fs.let_go(node)
            return 0, True
        if next_id > DOTS:
            node.lookups += 1
        return next_id, False

    async def releasedir(self, fh: int) -> None:
        with errno_at_the_door("releasedir"):
            self._fs.releasedir(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        with errno_at_the_door("fsyncdir"):
            await self._fs.fsyncdir(fh)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        with errno_at_the_door("statfs"):
            data = pyfuse3.StatvfsData()
            data.f_bsize = data.f_frsize = STATFS_BLOCK
            data.f_blocks = data.f_bfree = data.f_bavail = STATFS_BLOCKS
            data.f_files = data.f_ffree = data.f_favail = 1 << 32
            data.f_namemax = self._fs.name_limit()
            return data


def mount_flags(*, source: str, read_only: bool, allow_other: bool, extra: Sequence[str] = ()) -> set[str]:
    """Return the options of the kernel mount.

    The kernel checks permission bits itself, except for a super-user's private mount: to that it would grant
    everything, so access(2) is asked of us there and tells what the key allows.
    """
    flags = {f"fsname={_safe(source)}", "subtype=b2mount", *extra}
    if allow_other:
        flags.add("allow_other")
    if allow_other or os.getuid() != 0:
        flags.add("default_permissions")
    if read_only:
        flags.add("ro")
    return flags


def _safe(text: str) -> str:
    """Keep commas, backslashes, white space and what is not ASCII (pyfuse3's limit) out of a mount option."""
    return "".join(char if "!" <= char <= "~" and char not in ",\\" else "_" for char in text)
