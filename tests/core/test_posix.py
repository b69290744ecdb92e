"""Attributes through file info and back, and file info that strangers wrote."""

import stat
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core import posix
from b2mount.core.errors import AttributesTooLarge
from b2mount.core.posix import (
    INFO_LIMIT,
    Attributes,
    Kind,
    from_info,
    header_bytes,
    mark_of,
    st_mode,
    to_info,
    with_mark,
    without_mark,
)

NO_LIMIT = 10**9
NS = 10**9

moments = st.one_of(
    st.integers(-(2**63) * NS, 2**63 * NS - 1),
    st.integers(-(2**40), 2**62),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**12), 10**12).map(lambda ms: ms * 10**6),
    st.integers(253_402_300_799_990, 253_402_300_800_010).map(lambda ms: ms * 10**6),
)
kernel_text = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda raw: 0 not in raw)
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
owners = st.none() | st.integers(0, 2**32 - 2)


@st.composite
def attributes(draw: st.DrawFn) -> Attributes:
    kind = draw(st.sampled_from(Kind))
    return Attributes(
        kind=kind,
        mtime_ns=draw(moments),
        mode=draw(st.none() | st.integers(0, 0o7777)),
        uid=draw(owners),
        gid=draw(owners),
        target=draw(kernel_text) if kind is Kind.SYMLINK else None,
        rdev=draw(st.just(0) | st.integers(0, 2**64 - 1)),
        xattrs=draw(st.dictionaries(kernel_text, st.binary(max_size=30), max_size=4)),
        ctime_ns=draw(st.none() | moments),
    )


def back(info: dict[str, str], like: Attributes) -> Attributes:
    return from_info(info, fallback_ms=77, is_directory=like.kind is Kind.DIRECTORY)


# A stranger's entry, from plausible to absurd.
numbers_or_junk = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text(),
    st.sampled_from(["", " 12", "1_000", "+5", "１２", "NaN", "1e400", "9" * 5000, "-", ".5", "12."]),
)
own_junk = st.one_of(
    st.text(),
    st.lists(
        st.tuples(st.sampled_from([*"nkmugrtxyz", "xuser.a", "ya~"]), numbers_or_junk).map("=".join),
        max_size=6,
    ).map(lambda words: ";".join(["1", *words])),
)
strangers_info = st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=50).filter(
        lambda name: name not in (posix.OWN_NAME, posix.MTIME_NAME, posix.S3_MTIME_NAME)
    ),
    st.text(max_size=20),
    max_size=5,
)


@given(attributes())
def test_attributes_survive_the_way_through_file_info(a: Attributes) -> None:
    found = back(to_info(a, limit=NO_LIMIT), a)
    assert found == a
    if a.ctime_ns is not None:  # which takes no part in the comparison
        assert found.ctime_ns == a.ctime_ns


@given(attributes(), attributes(), strangers_info)
def test_attributes_replace_older_ones_and_leave_what_strangers_wrote(
    old: Attributes, new: Attributes, others: dict[str, str]
) -> None:
    first = to_info(old, others, limit=NO_LIMIT)
    second = to_info(new, first, limit=NO_LIMIT)
    assert second == to_info(new, others, limit=NO_LIMIT)
    assert others.items() <= second.items()
    assert back(second, new) == new


@given(attributes())
def test_what_is_written_needs_no_percent_encoding(a: Attributes) -> None:
    info = to_info(a, limit=NO_LIMIT)
    assert set(info) <= {posix.OWN_NAME, posix.MTIME_NAME}
    for value in info.values():
        assert quote(value, safe="-_./~!$'()*;=:@") == value


@given(attributes())
def test_b2_tools_always_find_a_plain_decimal_of_milliseconds(a: Attributes) -> None:
    written = to_info(a, limit=NO_LIMIT)[posix.MTIME_NAME]
    assert written == str(int(written))
    assert 0 <= int(written) < 2**63
    if 0 <= a.mtime_ns < 2**60:
        assert int(written) == a.mtime_ns // 10**6


@given(numbers_or_junk, numbers_or_junk, own_junk, st.booleans())
def test_no_file_info_of_a_stranger_makes_reading_fail(
    millis: str, seconds: str, own: str, is_directory: bool
) -> None:
    info = {posix.MTIME_NAME: millis, posix.S3_MTIME_NAME: seconds, posix.OWN_NAME: own}
    for some in (info, {posix.MTIME_NAME: millis}, {posix.S3_MTIME_NAME: seconds}, {posix.OWN_NAME: own}):
        found = from_info(some, fallback_ms=5, is_directory=is_directory)
        assert (found.kind is Kind.DIRECTORY) == is_directory
        assert back(to_info(found, some, limit=NO_LIMIT), found) == found


def test_a_plain_file_needs_no_entry_of_ours() -> None:
    plain = Attributes(Kind.FILE, 1_700_000_000_123 * 10**6)
    assert to_info(plain) == {"src_last_modified_millis": "1700000000123"}
    directory = Attributes(Kind.DIRECTORY, 0)
    assert to_info(directory) == {"src_last_modified_millis": "0"}


def test_our_entry_reads_as_documented() -> None:
    link = Attributes(
        Kind.SYMLINK,
        1_700_000_000_123_456_789,
        mode=0o755,
        uid=1000,
        gid=100,
        target="../a b~;=ü",
        xattrs={"user.note": b"half=1", "user.raw": bytes(range(6))},
    )
    assert to_info(link) == {
        "src_last_modified_millis": "1700000000123",
        "b2mount": "1;n=1700000000123456789;k=l;m=755;u=1000;g=100;t=../a~20b~7E~3B~3D~C3~BC"
        ";xuser.note=half~3D1;yuser.raw=AAECAwQF",
    }


def test_a_device_keeps_its_number() -> None:
    null = Attributes(Kind.CHARACTER, 0, mode=0o666, rdev=259)
    assert to_info(null)["b2mount"] == "1;k=c;m=666;r=259"
    assert back(to_info(null), null) == null


@pytest.mark.parametrize(
    "text", ["12.5", "", "now", "0x10", " 1", "1_0", "١٢", "253402300800000", "9" * 5000]
)
def test_milliseconds_that_are_none_fall_back_to_the_upload_time(text: str) -> None:
    assert from_info({"src_last_modified_millis": text}, fallback_ms=1234).mtime_ns == 1234 * 10**6


def test_a_time_before_1970_from_another_tool_is_taken() -> None:
    assert from_info({"src_last_modified_millis": "-1500"}, fallback_ms=9).mtime_ns == -1_500_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", 1_700_000_000 * NS),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1354040105.1234567899", 1_354_040_105_123_456_789),
        ("-1.5", -1_500_000_000),
        ("1e9", 5_000_000),
        ("nan", 5_000_000),
        ("999999999999", 5_000_000),
        ("253402300799.999", 253_402_300_799_999 * 10**6),
        ("253402300799.9990000001", 253_402_300_799_999 * 10**6),
        ("253402300800", 5_000_000),
    ],
)
def test_the_mtime_of_the_s3_world_is_read_in_float_seconds(text: str, expected: int) -> None:
    assert from_info({"mtime": text}, fallback_ms=5).mtime_ns == expected
    assert from_info({"mtime": text, "src_last_modified_millis": "7"}, fallback_ms=5).mtime_ns == 7_000_000


def test_the_mtime_of_the_s3_world_is_brought_up_to_date_where_it_is_one() -> None:
    later = Attributes(Kind.FILE, 1_700_000_000_123_456_789)
    assert to_info(later, {"mtime": "12.25"})["mtime"] == "1700000000.123456789"
    assert to_info(Attributes(Kind.FILE, -1), {"mtime": "12"})["mtime"] == "-0.000000001"
    assert to_info(later, {"mtime": "tuesday"})["mtime"] == "tuesday"


def test_a_tool_that_changes_the_milliseconds_and_keeps_our_entry_wins() -> None:
    info = to_info(Attributes(Kind.FILE, 1_700_000_000_123_456_789, mode=0o600))
    info["src_last_modified_millis"] = "5000"
    found = from_info(info, fallback_ms=0)
    assert (found.mtime_ns, found.mode) == (5_000_000_000, 0o600)


def test_a_later_version_s_fields_are_skipped_and_handed_on() -> None:
    info = {"src_last_modified_millis": "5", "b2mount": "1;m=600;q=new~20thing;u=7"}
    found = from_info(info, fallback_ms=0)
    assert (found.mode, found.uid) == (0o600, 7)
    assert to_info(Attributes(Kind.FILE, 5_000_000), info)["b2mount"] == "1;q=new~20thing"


def test_an_entry_of_another_version_is_not_guessed_at() -> None:
    assert from_info({"b2mount": "2;m=600"}, fallback_ms=3) == Attributes(Kind.FILE, 3_000_000)
    assert "b2mount" not in to_info(Attributes(Kind.FILE, 0), {"b2mount": "2;m=600"})


def test_a_target_longer_than_the_kernel_takes_makes_no_symbolic_link() -> None:
    longest = from_info({"b2mount": f"1;k=l;t={'a' * 4095}"}, fallback_ms=0)
    assert longest == Attributes(Kind.SYMLINK, 0, target="a" * 4095)
    assert from_info({"b2mount": f"1;k=l;t={'a' * 4096}"}, fallback_ms=0) == Attributes(Kind.FILE, 0)


def test_one_broken_field_does_not_take_the_others_with_it() -> None:
    found = from_info({"b2mount": "1;m=9;u=5;k=l;t=;xuser.a=~Z;xuser.b=ok;yuser.c=!"}, fallback_ms=0)
    assert found == Attributes(Kind.FILE, 0, uid=5, xattrs={"user.b": b"ok"})


@given(st.dictionaries(st.text("abc#%|+", min_size=1), st.text(), max_size=4), st.text("aü /~%", max_size=20))
def test_header_bytes_are_those_of_the_encoded_header_lines(info: dict[str, str], name: str) -> None:
    def encoded(text: str) -> str:
        return quote(text, safe="-_./~!$'()*;=:@", errors="surrogatepass")

    lines = [f"X-Bz-File-Name: {encoded(name)}\r\n"] if name else []
    lines += [f"X-Bz-Info-{encoded(key)}: {encoded(value)}\r\n" for key, value in info.items()]
    assert header_bytes(info, name) == len("".join(lines))


@given(attributes(), strangers_info, st.integers(0, 400), st.text("aü/", max_size=100))
def test_what_passes_the_limit_is_refused_unless_it_is_the_time_alone(
    a: Attributes, others: dict[str, str], limit: int, name: str
) -> None:
    try:
        info = to_info(a, others, limit=limit, file_name=name)
    except AttributesTooLarge:
        stored_ms = int(to_info(a, limit=NO_LIMIT)[posix.MTIME_NAME])
        least = to_info(replace(a, mtime_ns=stored_ms * 10**6), others, limit=NO_LIMIT)
        assert header_bytes(least, name) > limit
        assert set(least) > {posix.MTIME_NAME}
    else:
        assert header_bytes(info, name) <= limit or set(info) == {posix.MTIME_NAME}
        if header_bytes(to_info(a, others, limit=NO_LIMIT), name) <= limit:
            assert back(info, a) == a


def test_what_fits_to_the_byte_is_taken_as_it_is() -> None:
    a = Attributes(Kind.FILE, 1_700_000_000_123_456_789, mode=0o640)
    whole = to_info(a)
    assert to_info(a, limit=header_bytes(whole)) == whole
    cut = to_info(a, limit=header_bytes(whole) - 1)
    assert to_info(a, limit=header_bytes(cut)) == cut


def test_words_that_are_no_fields_are_dropped() -> None:
    info = {"b2mount": "1;;=;=5;zz;x;y;x=1;u=7"}
    assert from_info(info, fallback_ms=0) == Attributes(Kind.FILE, 0, uid=7)
    assert "b2mount" not in to_info(Attributes(Kind.FILE, 0), info)


@pytest.mark.parametrize(
    "extreme",
    [
        Attributes(Kind.FILE, -(2**63) * NS, mode=0, uid=0, gid=0),
        Attributes(Kind.BLOCK, 2**63 * NS - 1, mode=0o7777, uid=2**32 - 2, gid=2**32 - 2, rdev=2**64 - 1),
    ],
)
def test_the_first_and_last_values_of_every_field_survive(extreme: Attributes) -> None:
    assert back(to_info(extreme), extreme) == extreme


@pytest.mark.parametrize(
    "field", ["m=10000", "m=-1", "u=4294967295", "u=-1", "g=4294967295", "r=18446744073709551616", "r=-1"]
)
def test_a_field_out_of_range_is_left_out(field: str) -> None:
    assert from_info({"b2mount": f"1;{field}"}, fallback_ms=1) == Attributes(Kind.FILE, 1_000_000)


@pytest.mark.parametrize("seconds", [-(2**63) - 1, 2**63])
def test_a_time_that_no_file_can_have_is_left_out(seconds: int) -> None:
    assert from_info({"b2mount": f"1;n={seconds * NS}"}, fallback_ms=1) == Attributes(Kind.FILE, 1_000_000)


def test_the_nanoseconds_give_way_before_anything_is_refused() -> None:
    a = Attributes(Kind.FILE, 1_700_000_000_123_456_789, mode=0o640)
    whole = to_info(a)
    cut = to_info(a, limit=header_bytes(whole) - 1)
    assert cut == {"src_last_modified_millis": "1700000000123", "b2mount": "1;m=640"}
    with pytest.raises(AttributesTooLarge, match=r"allows \d+"):
        to_info(a, limit=header_bytes(cut) - 1)


def test_a_name_that_fills_the_limit_is_left_for_b2_to_judge() -> None:
    a = Attributes(Kind.FILE, 1_700_000_000_123_456_789)
    assert to_info(a, limit=2048, file_name="自" * 340) == {"src_last_modified_millis": "1700000000123"}


def test_an_attribute_of_eight_thousand_bytes_is_too_large() -> None:
    with pytest.raises(AttributesTooLarge):
        to_info(Attributes(Kind.FILE, 0, xattrs={"user.big": b"a" * 8000}))
    fits = Attributes(Kind.FILE, 0, xattrs={"user.big": b"a" * 6900})
    assert header_bytes(to_info(fits)) <= INFO_LIMIT


@pytest.mark.parametrize(
    "values",
    [
        {"mode": 0o10000},
        {"mode": -1},
        {"uid": 2**32 - 1},
        {"gid": -1},
        {"rdev": 2**64},
        {"mtime_ns": 2**63 * NS},
        {"mtime_ns": -(2**63) * NS - 1},
        {"target": "a"},
        {"kind": Kind.SYMLINK},
        {"kind": Kind.SYMLINK, "target": ""},
        {"kind": Kind.SYMLINK, "target": "a\0"},
        {"kind": Kind.SYMLINK, "target": "\ud800"},
        {"xattrs": {"": b""}},
    ],
)
def test_attributes_that_no_file_can_have_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Attributes(**{"kind": Kind.FILE, "mtime_ns": 0, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "expected"),
    [
        (Attributes(Kind.FILE, 0), stat.S_IFREG | 0o644),
        (Attributes(Kind.DIRECTORY, 0), stat.S_IFDIR | 0o755),
        (Attributes(Kind.FIFO, 0), stat.S_IFIFO | 0o644),
        (Attributes(Kind.FILE, 0, mode=0o4777), stat.S_IFREG | 0o4777),
        (Attributes(Kind.DIRECTORY, 0, mode=0o1777), stat.S_IFDIR | 0o1777),
        (Attributes(Kind.SYMLINK, 0, target="a"), stat.S_IFLNK | 0o777),
    ],
)
def test_the_umask_is_taken_from_defaults_and_not_from_what_was_stored(a: Attributes, expected: int) -> None:
    assert st_mode(a, umask=0o022, mask=0o777) == expected


def test_the_mask_takes_what_the_key_does_not_allow() -> None:
    assert st_mode(Attributes(Kind.FILE, 0), umask=0o022, mask=0o555) == stat.S_IFREG | 0o444
    assert st_mode(Attributes(Kind.FILE, 0, mode=0o2664), umask=0, mask=0o333) == stat.S_IFREG | 0o2220


@given(attributes(), st.text("0123456789abcdef", min_size=1, max_size=16))
def test_a_mark_says_nothing_of_the_file_and_no_copy_gets_it(a: Attributes, mark: str) -> None:
    info = to_info(a, {"colour": "blue"})
    marked = with_mark(info, mark)
    assert (mark_of(info), mark_of(marked)) == (None, mark)
    assert without_mark(marked) == without_mark(info) == info
    is_directory = a.kind is Kind.DIRECTORY
    assert from_info(marked, fallback_ms=0, is_directory=is_directory) == from_info(
        info, fallback_ms=0, is_directory=is_directory
    )
    assert mark_of(to_info(a, marked)) is None


def test_an_info_without_room_or_of_another_version_gets_no_mark() -> None:
    full = {"colour": "b" * (INFO_LIMIT - 30)}
    assert with_mark(full, "0123456789abcdef") == full
    later = {"b2mount": "2;b=what"}
    assert with_mark(later, "00") == later
    assert mark_of(later) is None
