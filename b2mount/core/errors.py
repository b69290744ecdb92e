"""Every way a file operation can be refused or fail, and the errno each one is at the kernel's door.

The tree holds facts about the request; it knows nothing of HTTP (see core/replies.py, which turns B2's
answers into these) and nothing of FUSE (fuse.py raises the errno). `ERRNO` has a row for each leaf.
"""

import errno


class B2MountError(Exception):
    """Anything b2mount refuses or fails at, with a sentence for people in `str()`."""


class NoSuchFile(B2MountError):
    """No visible file, directory or bucket has this name."""


class AlreadyExists(B2MountError):
    """The name is taken."""


class IsADirectory(B2MountError):
    """A file operation was asked of a directory."""


class NotADirectory(B2MountError):
    """A directory operation was asked of a file."""


class DirectoryNotEmpty(B2MountError):
    """The directory still has names under it."""


class InvalidArgument(B2MountError):
    """The operation makes no sense as asked."""


class IllegalName(B2MountError):
    """B2 cannot hold this file name."""


class NameNotUnicode(B2MountError):
    """The name is not UTF-8, and B2 stores nothing else."""


class NameTooLong(B2MountError):
    """The name, or one component of it, is longer than B2 allows."""


class NotSupported(B2MountError):
    """B2 or this mount has no such operation."""


class NoSuchAttribute(B2MountError):
    """The file has no extended attribute of this name."""


class AttributesTooLarge(B2MountError):
    """The file info would pass B2's limit for one file."""


class FileTooLarge(B2MountError):
    """The file would pass B2's limit of 10 TB."""


class BadHandle(B2MountError):
    """The handle was not opened for this."""


# --- what the key does not open ---------------------------------------------------------------------------


class KeyForbids(B2MountError):
    """The key lacks a right; raised through one of its three kinds below."""


class AccessDenied(KeyForbids):
    """The key may not read, list or create this."""


class NotPermitted(KeyForbids):
    """The key may not remove or change what exists."""


class ReadOnlyMount(KeyForbids):
    """The mount is read-only: by its key, by choice, or because it shows the past."""


class HeldByLock(B2MountError):
    """Object Lock (retention or legal hold) keeps the version as it is."""


class KeyExpired(B2MountError):
    """The application key's time is over."""


class KeyRevoked(B2MountError):
    """The application key was deleted."""


class KeyRejected(B2MountError):
    """B2 does not accept the credentials."""


# --- what B2 or the way to it will not do now -------------------------------------------------------------


class CapReached(B2MountError):
    """A cap that the account's owner set (storage, download, transactions) is reached."""


class B2Unavailable(B2MountError):
    """B2 did not answer within the time given for this operation."""


class Throttled(B2MountError):
    """B2 asked to slow down until the time given for this operation was over."""


class Conflict(B2MountError):
    """B2 saw a simultaneous change of the same thing."""


class VersionGone(B2MountError):
    """The file version that a handle reads was deleted from B2."""


class DataCorrupt(B2MountError):
    """What arrived is not what B2 says it holds, also after it was fetched again."""


class RefusedByB2(B2MountError):
    """B2 refused a request that was sent in good faith: a bug here or a change there."""


class LocalStorageError(B2MountError):
    """The journal, spool or cache directory cannot be used (full, read-only, removed)."""


class OutOfSpace(LocalStorageError):
    """The disk that holds the journal and spool is full."""


ERRNO: dict[type[B2MountError], int] = {
    NoSuchFile: errno.ENOENT,
    AlreadyExists: errno.EEXIST,
    IsADirectory: errno.EISDIR,
    NotADirectory: errno.ENOTDIR,
    DirectoryNotEmpty: errno.ENOTEMPTY,
    InvalidArgument: errno.EINVAL,
    IllegalName: errno.EINVAL,
    NameNotUnicode: errno.EILSEQ,
    NameTooLong: errno.ENAMETOOLONG,
    NotSupported: errno.EOPNOTSUPP,
    NoSuchAttribute: errno.ENODATA,
    AttributesTooLarge: errno.ENOSPC,
    FileTooLarge: errno.EFBIG,
    BadHandle: errno.EBADF,
    AccessDenied: errno.EACCES,
    NotPermitted: errno.EPERM,
    ReadOnlyMount: errno.EROFS,
    HeldByLock: errno.EPERM,
    KeyExpired: errno.EKEYEXPIRED,
    KeyRevoked: errno.EKEYREVOKED,
    KeyRejected: errno.EKEYREJECTED,
    CapReached: errno.EDQUOT,
    B2Unavailable: errno.ETIMEDOUT,
    Throttled: errno.EBUSY,
    Conflict: errno.EBUSY,
    VersionGone: errno.ESTALE,
    DataCorrupt: errno.EIO,
    RefusedByB2: errno.EIO,
    LocalStorageError: errno.EIO,
    OutOfSpace: errno.ENOSPC,
}


def errno_of(error: B2MountError) -> int:
    """Return the errno for *error*, by its nearest class in `ERRNO`."""
    for kind in type(error).__mro__:
        if kind in ERRNO:
            return ERRNO[kind]
    return errno.EIO
