"""The words of a mount: `-o` as mount(8) passes it, and what they become."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli.mount_words import UnknownWord, make_options, parse_endpoint, parse_o
from b2mount.core.options import MountOptions

MOUNTPOINT = Path("/mnt/photos")


def test_every_word_becomes_the_choice_it_means() -> None:
    said = parse_o(
        "ro,allow_other,uid=1000,gid=100,umask=077,cache_dir=/fast,cache_size=5G,state_dir=/safe,"
        "endpoint=http://127.0.0.1:8080/,listing_ttl=5m,io_timeout=90,settle=500ms,uploads=4,downloads=8,"
        "memory_size=64M,ca_file=/ca.pem,hard_delete,write_through"
    )
    assert make_options(MOUNTPOINT, "photos/2024", said) == MountOptions(
        mountpoint=MOUNTPOINT,
        source="photos/2024",
        read_only=True,
        allow_other=True,
        uid=1000,
        gid=100,
        umask=0o077,
        cache_dir=Path("/fast"),
        cache_size=5 << 30,
        state_dir=Path("/safe"),
        endpoint="http://127.0.0.1:8080",
        listing_ttl=300.0,
        io_timeout=90.0,
        settle=0.5,
        uploads=4,
        downloads=8,
        memory_size=64 << 20,
        ca_file=Path("/ca.pem"),
        hard_delete=True,
        write_through=True,
    )


def test_nothing_said_leaves_every_default() -> None:
    assert make_options(MOUNTPOINT, None, parse_o("")) == MountOptions(mountpoint=MOUNTPOINT)


def test_what_fstab_and_mount_say_among_themselves_is_ignored() -> None:
    words = "defaults,_netdev,noauto,nofail,user,users,x-systemd.automount,x-gvfs-show,comment=hello,relatime"
    assert parse_o(words) == {}


def test_flags_that_only_the_kernel_knows_are_passed_on() -> None:
    said = parse_o("rw,noexec,nosuid,nodev,noatime")
    assert make_options(MOUNTPOINT, None, said).kernel_options == ("noexec", "noatime")


def test_setuid_bits_and_devices_cannot_be_asked_for() -> None:
    assert parse_o("suid,dev,exec") == {}


def test_the_later_word_wins() -> None:
    assert parse_o("ro,rw") == {"read_only": False}
    assert parse_o("rw,ro,uid=1,uid=2") == {"read_only": True, "uid": 2}


def test_a_comma_in_a_value_is_escaped() -> None:
    assert parse_o(r"cache_dir=/a\,b,ro") == {"cache_dir": Path("/a,b"), "read_only": True}


def test_words_about_the_program_are_kept_beside_those_about_the_mount() -> None:
    said = parse_o("credentials=/etc/b2mount/photos,profile=photos,log_level=debug,nonempty")
    assert said == {
        "credentials": Path("/etc/b2mount/photos"),
        "profile": "photos",
        "log_level": "debug",
        "nonempty": True,
    }
    assert make_options(MOUNTPOINT, None, said) == MountOptions(mountpoint=MOUNTPOINT)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("zork", "unknown option 'zork'", "b2mount mount --help shows what can be said"),
        ("ro,zork=1", "unknown option 'zork'", "b2mount mount --help shows what can be said"),
        ("uid", "option uid needs a value", "write uid=VALUE"),
        ("ro=1", "option ro takes no value", "write ro alone"),
        (
            "key=K001abc",
            "option key: keys are not given as options, where everybody sees them",
            "use -o credentials=FILE or -o profile=NAME",
        ),
    ],
)
def test_an_unknown_word_is_an_error_that_names_it_but_not_its_value(
    text: str, message: str, hint: str
) -> None:
    with pytest.raises(UnknownWord) as caught:
        parse_o(text)
    assert (str(caught.value), caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache_size=much", "option cache_size: 'much' is not a size; write 512M, 10G or 1.5TiB"),
        ("umask=999", "option umask: '999' is not an octal mask; write 022 or 077"),
        (
            "log_level=loud",
            "option log_level: 'loud' is not a log level; choose one of debug, info, warning, error",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_an_error_that_names_its_word(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_o(text)
    assert str(caught.value) == message


def test_sloppy_passes_over_unknown_words_but_not_over_bad_values() -> None:
    assert parse_o("zork,ro,pass=x", sloppy=True) == {"read_only": True}
    with pytest.raises(ValueError, match="umask"):
        parse_o("umask=9", sloppy=True)


@given(st.text(max_size=60))
def test_no_text_whatever_makes_the_reader_fail_otherwise(text: str) -> None:
    try:
        parse_o(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    "url", ["https://api.example.org", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080"]
)
def test_endpoints_are_base_urls(url: str) -> None:
    assert parse_endpoint(url) == url
    assert parse_endpoint(url + "/") == url


@pytest.mark.parametrize("text", ["127.0.0.1:18080", "api.example.org", "localhost", "//host"])
def test_an_endpoint_without_a_scheme_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has no scheme; say http:// or https://"):
        parse_endpoint(text)


def test_a_key_is_never_sent_unencrypted_over_a_network() -> None:
    with pytest.raises(ValueError, match="would send the key unencrypted"):
        parse_endpoint("http://api.example.org")


@pytest.mark.parametrize("text", ["", "ftp://host", "https://", "https://user:pw@host", "https://host?x=1"])
def test_what_is_no_base_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a base URL"):
        parse_endpoint(text)
