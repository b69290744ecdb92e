"""Errors: each kind has an errno that the kernel passes on, and it is the one the semantics promise."""

import errno
import os

import pytest

from b2mount.core import errors
from b2mount.core.errors import ERRNO, B2MountError, errno_of

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, B2MountError)]
LEAVES = [kind for kind in KINDS if not any(other is not kind and issubclass(other, kind) for other in KINDS)]

# Written out from the semantics, class by class.
PROMISED = {
    "NoSuchFile": "ENOENT",
    "AlreadyExists": "EEXIST",
    "IsADirectory": "EISDIR",
    "NotADirectory": "ENOTDIR",
    "DirectoryNotEmpty": "ENOTEMPTY",
    "InvalidArgument": "EINVAL",
    "IllegalName": "EINVAL",
    "NameNotUnicode": "EILSEQ",
    "NameTooLong": "ENAMETOOLONG",
    "NotSupported": "EOPNOTSUPP",
    "NoSuchAttribute": "ENODATA",
    "AttributesTooLarge": "ENOSPC",
    "FileTooLarge": "EFBIG",
    "BadHandle": "EBADF",
    "AccessDenied": "EACCES",
    "NotPermitted": "EPERM",
    "ReadOnlyMount": "EROFS",
    "HeldByLock": "EPERM",
    "KeyExpired": "EKEYEXPIRED",
    "KeyRevoked": "EKEYREVOKED",
    "KeyRejected": "EKEYREJECTED",
    "CapReached": "EDQUOT",
    "B2Unavailable": "ETIMEDOUT",
    "Throttled": "EBUSY",
    "Conflict": "EBUSY",
    "VersionGone": "ESTALE",
    "DataCorrupt": "EIO",
    "RefusedByB2": "EIO",
    "LocalStorageError": "EIO",
    "OutOfSpace": "ENOSPC",
}


def test_the_tree_is_not_empty() -> None:
    assert len(LEAVES) >= 25


@pytest.mark.parametrize("kind", LEAVES)
def test_every_kind_of_error_has_a_row(kind: type[B2MountError]) -> None:
    assert kind in ERRNO


@pytest.mark.parametrize("kind", ERRNO)
def test_every_errno_is_one_that_the_kernel_passes_on_and_libc_has_words_for(
    kind: type[B2MountError],
) -> None:
    number = ERRNO[kind]
    assert 1 <= number <= 511  # Linux, fs/fuse/dev.c: anything else makes the reply itself fail
    assert not os.strerror(number).startswith("Unknown error")


def test_the_table_is_the_one_promised() -> None:
    assert {kind.__name__: number for kind, number in ERRNO.items()} == {
        name: getattr(errno, symbol) for name, symbol in PROMISED.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is(kind: type[B2MountError]) -> None:
    assert kind.__doc__
    assert str(kind("in words")) == "in words"


def test_a_kind_made_elsewhere_takes_the_errno_of_its_nearest_ancestor() -> None:
    class Elsewhere(errors.NotPermitted):
        """A finer kind."""

    assert errno_of(Elsewhere()) == errno.EPERM
    assert errno_of(errors.OutOfSpace()) == errno.ENOSPC
    assert errno_of(B2MountError()) == errno.EIO
