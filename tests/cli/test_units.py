"""Sizes, durations, users and masks as people write them."""

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli import units


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("10G", 10 << 30),
        ("10g", 10 << 30),
        ("512MiB", 512 << 20),
        ("512 MiB", 512 << 20),
        ("10GB", 10_000_000_000),
        ("1.5T", 3 << 39),
        ("100B", 100),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "10X", "-1", "10 G B", "1e9", "10iB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write 512M, 10G or 1\.5TiB$"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("500ms", 0.5),
        ("0", 0.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5 minutes", "-1", "inf", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write 90, 90s, 5m or 1h$"):
        units.parse_duration(text)


def test_users_are_read_by_number_and_by_name() -> None:
    me = pwd.getpwuid(os.getuid())
    assert units.parse_uid("1234") == 1234
    assert units.parse_uid(me.pw_name) == me.pw_uid
    with pytest.raises(ValueError, match=r"^there is no user 'no such user'$"):
        units.parse_uid("no such user")
    with pytest.raises(ValueError, match=r"^there is no group 'no such group'$"):
        units.parse_gid("no such group")


def test_masks_are_octal() -> None:
    assert units.parse_umask("022") == 0o022
    assert units.parse_umask("77") == 0o077
    for text in ("8", "1000", "-1", "x", ""):
        with pytest.raises(ValueError, match="octal mask"):
            units.parse_umask(text)


def test_counts_begin_at_one() -> None:
    assert units.parse_count("16") == 16
    for text in ("0", "-1", "x", "", "²"):
        with pytest.raises(ValueError, match="not a number from 1"):
            units.parse_count(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10 << 30, "10.0 GiB"), (5 << 59, "2560.0 PiB")],
)
def test_sizes_are_written(size: int, text: str) -> None:
    assert units.show_size(size) == text


@given(st.integers(0, 1 << 60))
def test_a_written_size_reads_back_about_the_same(size: int) -> None:
    assert units.parse_size(units.show_size(size).removesuffix(" B")) == pytest.approx(size, rel=0.05)


def test_durations_and_counts_are_written() -> None:
    assert [units.show_duration(value) for value in (0.4, 42, 303, 3600, 187_200)] == [
        "0s",
        "42s",
        "5m 3s",
        "1h",
        "2d 4h",
    ]
    assert [units.show_count(value, "file") for value in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
