"""Access: the table of refusals, cell by cell, and what holds for every key."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.access import (
    LookUpBy,
    Operation,
    directory_mode_mask,
    is_read_only,
    look_up_by,
    mode_mask,
    refusal,
    table_rows,
)
from b2mount.core.errors import (
    AccessDenied,
    B2MountError,
    KeyExpired,
    NoSuchFile,
    NotPermitted,
    ReadOnlyMount,
    errno_of,
)
from b2mount.core.grant import B2_NAMES, AllowedBucket, Capability, Grant, parse_capabilities

EVERYTHING = list(B2_NAMES.values())
KEYS = {
    "all": EVERYTHING,
    "rwd": ["listFiles", "readFiles", "writeFiles", "deleteFiles"],
    "backup": ["listFiles", "readFiles", "writeFiles"],
    "w": ["writeFiles"],  # a drop box
    "w+l": ["writeFiles", "listFiles"],
    "w+r": ["writeFiles", "readFiles"],
    "w+d": ["writeFiles", "deleteFiles"],
    "l+r": ["listFiles", "readFiles"],
    "l+d": ["listFiles", "deleteFiles"],
    "l": ["listFiles"],
    "r": ["readFiles"],
    "none": [],
}

# Written out from Backblaze's pages, not from the code: b2_list_file_names and b2_list_file_versions need
# listFiles; downloads readFiles; upload, hide and start_large_file writeFiles; copy_file and copy_part
# writeFiles and readFiles; delete_file_version deleteFiles; and so on. "." is allowed.
TABLE = """
                   all    rwd    backup w      w+l    w+r    w+d    l+r    l+d    l      r      none
LOOK_UP            .      .      .      .      .      .      .      .      .      .      .      .
LIST               .      .      .      EACCES .      EACCES EACCES .      .      .      EACCES EACCES
LIST_VERSIONS      .      .      .      EACCES .      EACCES EACCES .      .      .      EACCES EACCES
READ               .      .      .      EACCES EACCES .      EACCES .      EACCES EACCES .      EACCES
CREATE             .      .      .      .      .      .      .      EROFS  EROFS  EROFS  EROFS  EROFS
REPLACE            .      .      .      .      .      .      .      EROFS  EROFS  EROFS  EROFS  EROFS
PATCH              .      .      .      EPERM  EPERM  .      EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
SET_ATTRIBUTES     .      .      .      EPERM  EPERM  .      EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
SYMLINK            .      .      .      .      .      .      .      EROFS  EROFS  EROFS  EROFS  EROFS
MKDIR              .      .      .      .      .      .      .      EROFS  EROFS  EROFS  EROFS  EROFS
RMDIR              .      .      .      EPERM  .      EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
UNLINK             .      .      .      .      .      .      .      EROFS  EROFS  EROFS  EROFS  EROFS
HARD_DELETE        .      .      EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
RENAME_FILE        .      .      .      EPERM  EPERM  .      EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
RENAME_DIRECTORY   .      .      .      EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
RESTORE            .      .      .      EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
LINK               EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
READ_RETENTION     .      EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES
READ_LEGAL_HOLD    .      EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES
SET_RETENTION      .      EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
SET_LEGAL_HOLD     .      EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
BYPASS_GOVERNANCE  .      EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
MAKE_BUCKET        .      EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
REMOVE_BUCKET      .      EPERM  EPERM  EPERM  EPERM  EPERM  EPERM  EROFS  EROFS  EROFS  EROFS  EROFS
"""


def _cells() -> list[tuple[str, str, str]]:
    header, *lines = TABLE.strip("\n").splitlines()
    keys = header.split()
    return [
        (operation, key, cell)
        for operation, *cells in (line.split() for line in lines)
        for key, cell in zip(keys, cells, strict=True)
    ]


def key_with(*capabilities: str, prefix: str = "", expires_ms: int | None = None) -> Grant:
    known, unknown = parse_capabilities(list(capabilities))
    assert not unknown
    return Grant("acc", known, (AllowedBucket("b1", "photos"),), prefix, expires_ms)


def outcome(error: B2MountError | None) -> str:
    return "." if error is None else errno.errorcode[errno_of(error)]


@pytest.mark.parametrize(("operation", "key", "cell"), _cells())
def test_the_table_of_refusals(operation: str, key: str, cell: str) -> None:
    grant = key_with(*KEYS[key])
    assert outcome(refusal(Operation[operation], grant)) == cell
    assert outcome(refusal(Operation[operation], grant, name="a/b")) == cell


def test_the_table_above_has_every_operation_and_every_key() -> None:
    assert {(operation, key) for operation, key, _ in _cells()} == {
        (operation.name, key) for operation in Operation for key in KEYS
    }


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        (Operation.READ_RETENTION, "readFileRetentions"),
        (Operation.READ_LEGAL_HOLD, "readFileLegalHolds"),
        (Operation.SET_RETENTION, "writeFileRetentions"),
        (Operation.SET_LEGAL_HOLD, "writeFileLegalHolds"),
        (Operation.BYPASS_GOVERNANCE, "bypassGovernance"),
        (Operation.MAKE_BUCKET, "writeBuckets"),
        (Operation.REMOVE_BUCKET, "deleteBuckets"),
    ],
)
def test_the_rarer_rights_each_open_one_operation(operation: Operation, needed: str) -> None:
    assert refusal(operation, key_with("writeFiles", needed)) is None
    others = key_with(*(name for name in EVERYTHING if name != needed))
    assert f"the key lacks {needed}," in str(refusal(operation, others))


LOOKING = [
    Operation.LOOK_UP,
    Operation.LIST,
    Operation.LIST_VERSIONS,
    Operation.READ,
    Operation.READ_RETENTION,
    Operation.READ_LEGAL_HOLD,
]
CHANGING = [operation for operation in Operation if operation not in LOOKING]
OF_BUCKETS = [Operation.MAKE_BUCKET, Operation.REMOVE_BUCKET]


@pytest.mark.parametrize("operation", Operation)
def test_a_mount_made_read_only_refuses_every_change_and_nothing_else(operation: Operation) -> None:
    error = refusal(operation, key_with(*EVERYTHING), name="a", read_only=True)
    assert outcome(error) == ("EROFS" if operation in CHANGING else ".")


def test_a_refusal_names_what_is_missing_as_B2_spells_it() -> None:
    assert str(refusal(Operation.READ, key_with("listFiles"))).startswith("the key lacks readFiles,")
    both = refusal(Operation.RENAME_DIRECTORY, key_with("writeFiles"))
    assert str(both).startswith("the key lacks listFiles and readFiles, needed to rename a directory")
    assert "the key lacks writeFiles" in str(refusal(Operation.CREATE, key_with("readFiles")))
    assert "lacks" not in str(refusal(Operation.CREATE, key_with("writeFiles"), read_only=True))


# --- the prefix ---


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("name", ["b", "ab", "a", "a/c", "a/c/", "a/b", "ba/b/c"])
def test_a_name_outside_the_prefix_is_not_there_and_cannot_be_made(operation: Operation, name: str) -> None:
    making = {
        Operation.CREATE,
        Operation.SYMLINK,
        Operation.MKDIR,
        Operation.RENAME_FILE,
        Operation.RENAME_DIRECTORY,
    }
    error = refusal(operation, key_with(*EVERYTHING, prefix="a/b/"), name=name)
    if operation in OF_BUCKETS:
        assert error is None
    elif operation is Operation.LINK:
        assert type(error) is NotPermitted
    elif operation in making:
        assert type(error) is AccessDenied
        assert "'a/b/'" in str(error)
    else:
        assert type(error) is NoSuchFile


@pytest.mark.parametrize("operation", [*Operation])
@pytest.mark.parametrize("name", ["a/b/", "a/b/c", "a/b/c/d/"])
def test_a_name_inside_the_prefix_is_allowed(operation: Operation, name: str) -> None:
    error = refusal(operation, key_with(*EVERYTHING, prefix="a/b/"), name=name)
    assert (error is None) == (operation is not Operation.LINK)


@pytest.mark.parametrize(
    ("directory", "prefix"), [("", "a/b/"), ("a/", "a/b/"), ("a/", "a/b/c"), ("a/", "a/b")]
)
@pytest.mark.parametrize("operation", [one for one in CHANGING if one not in OF_BUCKETS])
def test_a_directory_on_the_way_to_the_prefix_cannot_be_changed(
    operation: Operation, directory: str, prefix: str
) -> None:
    error = refusal(operation, key_with(*EVERYTHING, prefix=prefix), name=directory)
    assert type(error) is NotPermitted


@pytest.mark.parametrize("directory", ["", "a/"])
def test_a_directory_above_the_prefix_lists_even_without_listFiles(directory: str) -> None:
    grant = key_with("writeFiles", prefix="a/b/")
    assert refusal(Operation.LOOK_UP, grant, name=directory) is None
    assert refusal(Operation.LIST, grant, name=directory) is None
    assert type(refusal(Operation.LIST, grant, name="a/b/")) is AccessDenied


def test_a_directory_that_the_prefix_cuts_is_seen_but_lists_only_with_listFiles() -> None:
    assert refusal(Operation.LOOK_UP, key_with("writeFiles", prefix="a/b"), name="a/") is None
    assert type(refusal(Operation.LIST, key_with("writeFiles", prefix="a/b"), name="a/")) is AccessDenied
    assert refusal(Operation.LIST, key_with("listFiles", prefix="a/b"), name="a/") is None


def test_a_prefix_not_on_a_slash_takes_every_name_that_begins_so() -> None:
    grant = key_with("listFiles", "readFiles", "writeFiles", prefix="a/b")
    assert refusal(Operation.CREATE, grant, name="a/bc") is None
    assert refusal(Operation.MKDIR, grant, name="a/b/") is None
    assert type(refusal(Operation.CREATE, grant, name="a/c")) is AccessDenied


def test_a_key_without_writeFiles_says_EROFS_wherever_the_name_lies() -> None:
    grant = key_with("listFiles", "readFiles", prefix="a/")
    assert type(refusal(Operation.CREATE, grant, name="b")) is ReadOnlyMount


# --- expiry ---


@pytest.mark.parametrize("operation", Operation)
def test_an_expired_key_says_so_before_all_else(operation: Operation) -> None:
    grant = key_with("listFiles", prefix="a/", expires_ms=1_700_000_000_000)
    error = refusal(operation, grant, name="b", read_only=True, now_ms=1_700_000_000_000)
    assert type(error) is KeyExpired
    assert "2023-11-14 22:13:20 UTC" in str(error)


def test_a_key_is_good_until_the_millisecond_it_expires() -> None:
    grant = key_with("listFiles", expires_ms=1_700_000_000_000)
    assert refusal(Operation.LIST, grant, now_ms=1_699_999_999_999) is None
    assert refusal(Operation.LIST, grant) is None
    assert refusal(Operation.LIST, key_with("listFiles"), now_ms=1 << 60) is None


# --- what holds for every key ---

CAPABILITIES = st.sets(st.sampled_from(list(Capability)))
NAMES = st.one_of(st.none(), st.text(st.sampled_from("ab/"), max_size=6))
PREFIXES = st.text(st.sampled_from("ab/"), max_size=4)


def grant_of(capabilities: set[Capability], prefix: str = "") -> Grant:
    return key_with(*(B2_NAMES[one] for one in capabilities), prefix=prefix)


@given(st.sampled_from(Operation), CAPABILITIES, CAPABILITIES, PREFIXES, NAMES, st.booleans())
def test_a_key_with_more_rights_is_never_refused_more(
    operation: Operation,
    some: set[Capability],
    more: set[Capability],
    prefix: str,
    name: str | None,
    read_only: bool,
) -> None:
    if refusal(operation, grant_of(some, prefix), name=name, read_only=read_only) is None:
        assert refusal(operation, grant_of(some | more, prefix), name=name, read_only=read_only) is None


@given(st.sampled_from(Operation), CAPABILITIES, PREFIXES, NAMES)
def test_a_key_without_a_prefix_is_never_refused_more(
    operation: Operation, capabilities: set[Capability], prefix: str, name: str | None
) -> None:
    above = name is not None and (name == "" or name.endswith("/")) and prefix.startswith(name)
    if not above and refusal(operation, grant_of(capabilities, prefix), name=name) is None:
        assert refusal(operation, grant_of(capabilities), name=name) is None


@given(st.sampled_from(Operation), CAPABILITIES, PREFIXES, NAMES, st.booleans())
def test_a_writable_mount_allows_what_a_read_only_one_does(
    operation: Operation, capabilities: set[Capability], prefix: str, name: str | None, read_only: bool
) -> None:
    grant = grant_of(capabilities, prefix)
    if is_read_only(grant, read_only):
        error = refusal(operation, grant, name=name, read_only=read_only)
        assert (type(error) is ReadOnlyMount) == (operation in CHANGING)
    if refusal(operation, grant, name=name, read_only=True) is None:
        assert refusal(operation, grant, name=name) is None


@given(
    st.sampled_from(Operation), CAPABILITIES, PREFIXES, NAMES, st.booleans(), st.integers(-(1 << 40), 1 << 42)
)
def test_a_refusal_has_an_errno_and_one_line_for_people(
    operation: Operation, some: set[Capability], prefix: str, name: str | None, read_only: bool, now_ms: int
) -> None:
    error = refusal(operation, grant_of(some, prefix), name=name, read_only=read_only, now_ms=now_ms)
    if error is not None:
        assert len(str(error).splitlines()) == 1
        assert outcome(error) in ("ENOENT", "EACCES", "EPERM", "EROFS", "EKEYEXPIRED")


@given(CAPABILITIES)
def test_how_a_name_is_looked_up_follows_from_two_rights(capabilities: set[Capability]) -> None:
    by = look_up_by(grant_of(capabilities))
    if Capability.LIST_FILES in capabilities:
        assert by is LookUpBy.LISTING
    elif Capability.READ_FILES in capabilities:
        assert by is LookUpBy.HEAD
    else:
        assert by is LookUpBy.MEMORY


@pytest.mark.parametrize(
    ("capabilities", "read_only", "file", "directory"),
    [
        (["listFiles", "readFiles", "writeFiles"], False, 0o7777, 0o7777),
        (["listFiles", "readFiles", "writeFiles"], True, 0o7555, 0o7555),
        (["listFiles", "readFiles"], False, 0o7555, 0o7555),
        (["writeFiles"], False, 0o7333, 0o7333),
        (["readFiles", "writeFiles"], False, 0o7777, 0o7333),
        (["listFiles"], False, 0o7111, 0o7555),
        ([], False, 0o7111, 0o7111),
    ],
)
def test_permission_bits_show_what_the_key_allows(
    capabilities: list[str], read_only: bool, file: int, directory: int
) -> None:
    grant = key_with(*capabilities)
    assert mode_mask(grant, read_only) == file
    assert directory_mode_mask(grant, read_only) == directory


# --- the printed table ---


def test_the_printed_table_has_a_row_for_each_operation() -> None:
    assert sorted(row.operation for row in table_rows()) == sorted(operation.value for operation in Operation)


def test_the_printed_table_says_what_refusal_does() -> None:
    for row in table_rows():
        operation = Operation(row.operation)
        if not row.needs:
            assert outcome(refusal(operation, key_with(*EVERYTHING))) == (row.errno_names or (".",))[0]
            continue
        assert refusal(operation, key_with(*row.needs)) is None
        for needed, errno_name in zip(row.needs, row.errno_names, strict=True):
            without = key_with(*(name for name in EVERYTHING if name != needed))
            assert outcome(refusal(operation, without)) == errno_name


def test_the_printed_table_tells_nothing_of_looking_up_and_EPERM_of_hard_links() -> None:
    rows = {row.operation: row for row in table_rows()}
    assert rows["look up a name"][1:] == ((), ())
    assert rows["make a hard link"][1:] == ((), ("EPERM",))
    assert rows["change part of a stored file"][1:] == (("writeFiles", "readFiles"), ("EROFS", "EPERM"))
    assert rows["delete a file for good"].needs == ("writeFiles", "listFiles", "deleteFiles")
