"""Addresses to listen on."""

import pytest

from b2mount.core.listen import Listen, parse_listen


@pytest.mark.parametrize(
    ("text", "listen", "is_local"),
    [
        ("9847", Listen("127.0.0.1", 9847), True),
        (":9847", Listen("127.0.0.1", 9847), True),
        ("0", Listen("127.0.0.1", 0), True),
        ("localhost:1", Listen("127.0.0.1", 1), True),
        ("127.0.0.2:1", Listen("127.0.0.2", 1), True),
        ("0.0.0.0:1", Listen("0.0.0.0", 1), False),
        ("[::1]:1", Listen("::1", 1), True),
        ("[::]:1", Listen("::", 1), False),
        ("unix:/run/x.sock", Listen(path="/run/x.sock"), True),
    ],
)
def test_an_address_is_read_and_of_this_machine_unless_told_otherwise(
    text: str, listen: Listen, is_local: bool
) -> None:
    assert parse_listen(text) == listen
    assert listen.is_local is is_local
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize("text", ["", "x", "1.2.3.4", "1.2.3.4:x", "host:1", "65536", "unix:run", "::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        print(parse_listen(text))
