"""Every kind of key, every operation, inside and outside the key's prefix; three opinions on each cell.

The access table says what it expects, the mount is asked through the kernel, and the server is asked by the
raw calls that the operation comes down to. The key's prefix ends within a name, so that names inside and
outside lie in one directory. docs/keys.md prints the table.
"""

import errno
import itertools
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from b2mount.core.access import LookUpBy, Operation, is_read_only, look_up_by, refusal
from b2mount.core.errors import ReadOnlyMount, errno_of
from b2mount.core.grant import Grant
from tests.support.emulator import Emulator
from tests.support.key_sets import ELSEWHERE, KEY_SETS, grant_of
from tests.support.mount import Mount, MountFailed
from tests.support.semantics import calls_of, refusals_of

pytestmark = pytest.mark.fuse

PREFIX = "t/in"
FAR_MS = 4_000_000_000_000
RETENTION, HOLD = "user.b2.retention", "user.b2.legal_hold"
DIRECTORIES = {Operation.LIST, Operation.RMDIR, Operation.RENAME_DIRECTORY}
OF_READERS = {Operation.READ_RETENTION, Operation.READ_LEGAL_HOLD}
RENAMES = {Operation.RENAME_FILE, Operation.RENAME_DIRECTORY}
MADE = {Operation.CREATE, Operation.SYMLINK, Operation.MKDIR}  # their names must not exist before
# The kernel looks the name up before it sees that the mount is read-only.
LOOKED_UP_FIRST = {
    Operation.REPLACE,
    Operation.PATCH,
    Operation.SET_ATTRIBUTES,
    Operation.SET_RETENTION,
    Operation.SET_LEGAL_HOLD,
}
TELLING = ("everything", "no deleteFiles", "no listFiles", "write only")  # differ in how they delete for good
# B2 would do these without writeFiles; the mount as a whole is read-only without it.
NO_WRITE_FOR_B2 = {Operation.HARD_DELETE, Operation.SET_RETENTION, Operation.SET_LEGAL_HOLD}
ASKED: list[Operation] = [
    operation
    for operation in Operation
    if operation not in (*ELSEWHERE, Operation.BYPASS_GOVERNANCE, Operation.HARD_DELETE)
]


def component(side: str, operation: Operation) -> str:
    return f"{side}-{operation.name.lower()}"


# --- what the bucket holds --------------------------------------------------------------------------------


@pytest.fixture
def locking(emulator: Emulator) -> Iterator[str]:
    """A bucket with Object Lock that holds one thing for each operation, inside and outside, twice."""
    name = f"matrix-{uuid.uuid4().hex[:12]}"
    emulator.create_bucket(name, fileLockEnabled=True)
    files = []
    for side, kind, operation in itertools.product(
        ("in", "out"), ("", "raw-"), [*ASKED, Operation.HARD_DELETE]
    ):
        base = f"t/{side}-{kind}{operation.name.lower()}"
        if operation in DIRECTORIES:
            files.append({"name": f"{base}/.bzEmpty", "content": ""})
            if operation is not Operation.RMDIR:
                files.append({"name": f"{base}/file", "content": "content"})
        elif operation not in MADE:
            files.append({"name": base, "content": "content"})
    emulator.seed(name, files)
    for row in emulator.list_names(name):
        if "-read_" in row["fileName"]:
            hold(emulator, row)
    yield name
    for row in emulator.list_versions(name):
        if (row.get("legalHold") or {}).get("value") == "on":
            ids = {"fileName": row["fileName"], "fileId": row["fileId"]}
            emulator.ask("b2_update_file_legal_hold", {**ids, "legalHold": "off"})
    emulator.wipe(name)


def hold(emulator: Emulator, row: dict[str, Any]) -> None:
    ids = {"fileName": row["fileName"], "fileId": row["fileId"]}
    emulator.ask("b2_update_file_legal_hold", {**ids, "legalHold": "on"})
    retention = {"mode": "governance", "retainUntilTimestamp": FAR_MS}
    emulator.ask("b2_update_file_retention", {**ids, "fileRetention": retention})


# --- the mount's opinion ----------------------------------------------------------------------------------


def on_the_mount(path: Path, new: Path) -> dict[Operation, Callable[[], object]]:
    """Return how each operation is asked for; *path* has its thing, *new* is a free name beside it."""
    return {
        Operation.LOOK_UP: lambda: os.stat(path),
        Operation.LIST: lambda: os.listdir(path),
        Operation.READ: lambda: path.read_bytes(),
        Operation.CREATE: lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
        Operation.REPLACE: lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
        Operation.PATCH: lambda: os.close(os.open(path, os.O_WRONLY)),
        Operation.SET_ATTRIBUTES: lambda: os.chmod(path, 0o600),
        Operation.SYMLINK: lambda: os.symlink("target", path),
        Operation.MKDIR: lambda: os.mkdir(path),
        Operation.RMDIR: lambda: os.rmdir(path),
        Operation.UNLINK: lambda: os.unlink(path),
        Operation.HARD_DELETE: lambda: os.unlink(path),
        Operation.RENAME_FILE: lambda: os.rename(path, new),
        Operation.RENAME_DIRECTORY: lambda: os.rename(path, new),
        Operation.LINK: lambda: os.link(path, new),
        Operation.READ_RETENTION: lambda: os.getxattr(path, RETENTION),
        Operation.READ_LEGAL_HOLD: lambda: os.getxattr(path, HOLD),
        Operation.SET_RETENTION: lambda: os.setxattr(path, RETENTION, b"governance 2096-10-02"),
        Operation.SET_LEGAL_HOLD: lambda: os.setxattr(path, HOLD, b"on"),
    }


def ask_mount(mount: Mount, side: str, operation: Operation) -> str:
    """Return "." or the errno; a rename to the outside is one of something inside."""
    path = mount.path / component("in" if operation in RENAMES else side, operation)
    try:
        on_the_mount(path, mount.path / f"{side}-new-{operation.name.lower()}")[operation]()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "."


def make_known(mount: Mount, operations: Sequence[Operation]) -> None:
    """Make the things of a key that can look nothing up: it knows what is made through its mount alone."""
    for operation in operations:
        path = mount.path / component("in", operation)
        if operation in DIRECTORIES:
            path.mkdir()
        elif operation not in MADE:
            path.write_bytes(b"content")
    mount.flush()


# --- the table's opinion ----------------------------------------------------------------------------------


def expected(grant: Grant, side: str, operation: Operation) -> str:
    name = f"t/{component(side, operation)}"
    is_directory = operation in DIRECTORIES or operation is Operation.MKDIR
    refused = refusal(operation, grant, name=name + "/" if is_directory else name)
    if operation in {*MADE, Operation.LINK} and side == "in" and guesses_directories(grant):
        return "EEXIST"
    if operation in OF_READERS and side == "in" and os.geteuid() != 0:  # xattr(7): the kernel asks for "r"
        refused = refusal(Operation.READ, grant, name=name) or refused
    if side == "out" and refused is not None:
        if isinstance(refused, ReadOnlyMount) and operation in LOOKED_UP_FIRST:
            return "ENOENT"
        if operation is Operation.LINK:
            return "ENOENT"  # the kernel looks up what is to be linked
    return "." if refused is None else errno.errorcode[errno_of(refused)]


def guesses_directories(grant: Grant) -> bool:
    """Say whether a name that is no file is taken for a directory, since the key could not tell."""
    return look_up_by(grant) is LookUpBy.HEAD and is_read_only(grant, False)


# --- the server's opinion ---------------------------------------------------------------------------------


class Raw:
    """One key's calls, past the mount."""

    def __init__(self, emulator: Emulator, bucket: str, key: tuple[str, str]) -> None:
        self.emulator = emulator
        self.bucket = bucket
        self.bucket_id = emulator.bucket_id(bucket)
        self.token = emulator.token_of(*key)

    def call(self, name: str, **body: Any) -> bool:
        status, answer = self.emulator.call(name, body, self.token)
        assert status in (200, 401, 403), (name, status, answer)
        return status == 200

    def row(self, name: str) -> dict[str, Any]:
        return self.emulator.list_names(self.bucket, name)[0]

    def list(self, name: str) -> bool:
        return self.call("b2_list_file_names", bucketId=self.bucket_id, prefix=name)

    def read(self, name: str) -> bool:
        status, _, _ = self.emulator.get(f"/file/{self.bucket}/{name}", token=self.token)
        assert status in (200, 401), status
        return status == 200

    def upload(self, name: str) -> bool:
        status, _ = self.emulator.try_upload(self.bucket, name, b"raw", token=self.token)
        assert status in (200, 401), status
        return status == 200

    def copy(self, name: str) -> bool:
        return self.call("b2_copy_file", sourceFileId=self.row(name)["fileId"], fileName=f"{name}-copy")

    def hide(self, name: str) -> bool:
        return self.call("b2_hide_file", bucketId=self.bucket_id, fileName=name)

    def delete(self, name: str) -> bool:
        ids = {"fileName": name, "fileId": self.row(name)["fileId"]}
        return self.list(name) and self.call("b2_delete_file_version", **ids)

    def shown(self, name: str, field: str) -> bool:
        """Say whether a listing, or the answer to a read, tells of a lock."""
        body = {"bucketId": self.bucket_id, "prefix": name}
        status, answer = self.emulator.call("b2_list_file_names", body, self.token)
        if status == 200:
            return bool(answer["files"][0][field]["isClientAuthorizedToRead"])
        status, answer = self.emulator.call(
            "b2_get_file_info", {"fileId": self.row(name)["fileId"]}, self.token
        )
        return status == 200 and bool(answer[field]["isClientAuthorizedToRead"])

    def retain(self, name: str) -> bool:
        retention = {"mode": "governance", "retainUntilTimestamp": FAR_MS}
        ids = {"fileName": name, "fileId": self.row(name)["fileId"]}
        return self.call("b2_update_file_retention", **ids, fileRetention=retention)

    def hold(self, name: str) -> bool:
        ids = {"fileName": name, "fileId": self.row(name)["fileId"]}
        return self.call("b2_update_file_legal_hold", **ids, legalHold="on")


def ask_server(raw: Raw, side: str, operation: Operation) -> bool | None:
    """Say whether the server does what an operation comes down to; None where that is no call of its own."""
    name = f"t/{side}-raw-{operation.name.lower()}"
    inside = f"{name}/{'.bzEmpty' if operation is Operation.RMDIR else 'file'}"
    asks: dict[Operation, Callable[[], bool]] = {
        Operation.LIST: lambda: raw.list(name),
        Operation.READ: lambda: raw.read(name),
        Operation.CREATE: lambda: raw.upload(name),
        Operation.REPLACE: lambda: raw.upload(name),
        Operation.PATCH: lambda: raw.copy(name),
        Operation.SET_ATTRIBUTES: lambda: raw.copy(name),
        Operation.SYMLINK: lambda: raw.upload(name),
        Operation.MKDIR: lambda: raw.upload(f"{name}/.bzEmpty"),
        Operation.RMDIR: lambda: raw.list(name) and raw.hide(inside),
        Operation.UNLINK: lambda: raw.hide(name),
        Operation.HARD_DELETE: lambda: raw.delete(name),
        Operation.RENAME_FILE: lambda: raw.copy(name) and raw.hide(name),
        Operation.RENAME_DIRECTORY: lambda: raw.list(name) and raw.copy(inside) and raw.hide(inside),
        Operation.READ_RETENTION: lambda: raw.shown(name, "fileRetention"),
        Operation.READ_LEGAL_HOLD: lambda: raw.shown(name, "legalHold"),
        Operation.SET_RETENTION: lambda: raw.retain(name),
        Operation.SET_LEGAL_HOLD: lambda: raw.hold(name),
    }
    return asks[operation]() if operation in asks else None


def demand_agreement(grant: Grant, side: str, operation: Operation, *, server: bool | None) -> None:
    """Demand that the table allows exactly what the server does, less what a read-only mount gives up."""
    if server is None:
        return
    table = refusal(operation, grant)
    if side == "out":
        assert not server, f"the server does {operation.value} outside the prefix"
    elif isinstance(table, ReadOnlyMount) and operation in NO_WRITE_FOR_B2:
        return
    else:
        assert server is (table is None), (operation.value, table, server)


# --- the comparison ---------------------------------------------------------------------------------------


def outside(emulator: Emulator, bucket: str) -> list[tuple[str, str]]:
    rows = emulator.list_versions(bucket)
    return [(row["fileName"], row["fileId"]) for row in rows if not row["fileName"].startswith(PREFIX)]


@pytest.mark.parametrize("kind", list(KEY_SETS))
def test_table_mount_and_server_agree_on_every_cell(
    emulator: Emulator, locking: str, tmp_path: Path, kind: str
) -> None:
    capabilities = KEY_SETS[kind]
    key = emulator.create_key(capabilities, [locking], PREFIX)
    grant = grant_of(capabilities, PREFIX)
    before = outside(emulator, locking)
    since = emulator.last_seq()
    # Nothing is sent before the flush, so that what a refused operation sends is seen.
    with Mount(emulator, tmp_path, key, options=("--settle", "1h")) as mount:
        if look_up_by(grant) is LookUpBy.MEMORY:
            make_known(mount, ASKED)
        assert list(compare(mount, grant)) == []
        bits = os.stat(mount.path).st_mode
        assert bool(os.statvfs(mount.path).f_flag & os.ST_RDONLY) is ("writeFiles" not in capabilities)
        assert bool(bits & 0o222) is ("writeFiles" in capabilities)
        assert bool(bits & 0o444) is ("listFiles" in capabilities)
        assert os.access(mount.path, os.W_OK) is ("writeFiles" in capabilities)
        assert os.access(mount.path, os.R_OK) is ("listFiles" in capabilities)
        assert mount.ask("flush").returncode == 0, mount.log()
    assert refusals_of(emulator, key, since) == []
    assert outside(emulator, locking) == before
    raw = Raw(emulator, locking, key)
    for side in ("in", "out"):
        for operation in [*ASKED, Operation.HARD_DELETE]:
            demand_agreement(grant, side, operation, server=ask_server(raw, side, operation))


def compare(mount: Mount, grant: Grant) -> Iterator[str]:
    """Yield where the mount does other than the table says, or sends what is refused."""
    for side, operation in itertools.product(("out", "in"), ASKED):
        wanted = expected(grant, side, operation)
        start = mount.emulator.last_seq()
        got = ask_mount(mount, side, operation)
        if got == "ENODATA" and look_up_by(grant) is LookUpBy.MEMORY:
            got = "."  # its own files have no lock to be read
        if got != wanted:
            yield f"{operation.value}, {side}side: {got} instead of {wanted}"
        sent = [call for call in calls_of(mount.emulator, mount.key, start) if not is_look(call)]
        if wanted != "." and sent:
            yield f"{operation.value}, {side}side: {wanted}, yet {sent} was sent"


def is_look(call: str) -> bool:
    """Say whether a call only looks, as finding the name before it is refused may need."""
    return call in ("b2_list_file_names", "b2_download_file_by_name", "b2_get_file_info", "b2_list_buckets")


@pytest.mark.parametrize(
    "kind", [kind if kind in TELLING else pytest.param(kind, marks=pytest.mark.slow) for kind in KEY_SETS]
)
def test_hard_deletion_follows_the_table(emulator: Emulator, locking: str, tmp_path: Path, kind: str) -> None:
    capabilities = KEY_SETS[kind]
    key = emulator.create_key(capabilities, [locking], PREFIX)
    grant = grant_of(capabilities, PREFIX)
    since = emulator.last_seq()
    with Mount(emulator, tmp_path, key, options=("--settle", "0", "--hard-delete")) as mount:
        if look_up_by(grant) is LookUpBy.MEMORY:
            make_known(mount, [Operation.HARD_DELETE])
        for side in ("in", "out"):
            wanted = expected(grant, side, Operation.HARD_DELETE)
            assert ask_mount(mount, side, Operation.HARD_DELETE) == wanted
        assert mount.ask("flush").returncode == 0, mount.log()
    assert refusals_of(emulator, key, since) == []
    left = emulator.list_versions(locking, "t/in-hard_delete")
    assert (left == []) is (expected(grant, "in", Operation.HARD_DELETE) == ".")


@pytest.mark.parametrize("kind", ["everything", "writes locks"])
def test_the_bypass_is_granted_or_refused_at_the_start(
    emulator: Emulator, locking: str, tmp_path: Path, kind: str
) -> None:
    key = emulator.create_key(KEY_SETS[kind], [locking], PREFIX)
    mount = Mount(emulator, tmp_path, key, options=("--bypass-governance",))
    if "bypassGovernance" in KEY_SETS[kind]:
        with mount:
            os.statvfs(mount.path)
    else:
        with pytest.raises(MountFailed, match="the key lacks bypassGovernance"):
            mount.start()
