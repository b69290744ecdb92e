"""Credentials: cleaned of what a paste brings along, judged by shape, silent about the secret."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.credentials import (
    Credentials,
    CredentialsError,
    Remark,
    Removed,
    Shape,
    clean,
    diagnose,
    make_credentials,
    shape_of,
)

ACCOUNT_ID = "8f5033aa0860"
KEY_ID = "0018f5033aa08600000000001"
MASTER_KEY_ID = "0018f5033aa08600000000000"
KEY = "K001abcdefghijklmnopqrstuvwx+/9"
MASTER_KEY = "001" + "0123456789abcdef" * 2 + "0123456"
BUCKET_ID = "a8ef5033aa08600000000001"

PLAIN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
HIDDEN = st.sampled_from(" \t\r\n\u00a0\u202f\u2007\ufeff\u200b\u200c\u200d\u2060\u200e\u00ad")


def test_the_examples_have_the_shapes_they_should() -> None:
    texts = [ACCOUNT_ID, KEY_ID, MASTER_KEY_ID, KEY, MASTER_KEY, BUCKET_ID, KEY[:20], "ab12", "my-key"]
    assert [shape_of(text) for text in texts] == [
        Shape.ACCOUNT_ID,
        Shape.KEY_ID,
        Shape.MASTER_KEY_ID,
        Shape.KEY,
        Shape.MASTER_KEY,
        Shape.BUCKET_ID,
        Shape.CUT_KEY,
        Shape.HEX,
        Shape.OTHER,
    ]


# --- cleaning ---------------------------------------------------------------------------------------------


@given(PLAIN)
def test_plain_text_is_left_as_it_is(text: str) -> None:
    assert clean(text) == (text, ())


@given(PLAIN, st.lists(st.tuples(st.integers(0, 40), HIDDEN), max_size=10))
def test_hidden_characters_go_wherever_they_are(text: str, extra: list[tuple[int, str]]) -> None:
    dirty = text
    for position, character in extra:
        dirty = dirty[:position] + character + dirty[position:]
    cleaned, removed = clean(dirty)
    assert cleaned == text
    assert bool(removed) == bool(extra)


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    cleaned, _ = clean(text)
    assert clean(cleaned) == (cleaned, ())


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        (" ", Removed.WHITE_SPACE),
        ("\r", Removed.WHITE_SPACE),
        ("\u3000", Removed.WHITE_SPACE),
        ("\ufeff", Removed.BYTE_ORDER_MARK),
        ("\u200b", Removed.ZERO_WIDTH),
        ("\u2060", Removed.ZERO_WIDTH),
        ("\u00a0", Removed.NON_BREAKING),
    ],
)
def test_each_hidden_character_is_named_by_its_kind(character: str, kind: Removed) -> None:
    assert clean(f"{character}ab{character}c") == ("abc", (kind,))


def test_what_was_removed_is_remarked_on_without_being_a_suspicion() -> None:
    (remark,) = diagnose(KEY_ID, f"\ufeff{KEY}\u00a0\n")
    assert remark.message == (
        "white space and a byte order mark and non-breaking spaces in the application key went unused"
    )
    assert not remark.is_suspicion


@pytest.mark.parametrize("empty", ["", "   ", "\ufeff\n"])
def test_an_empty_half_is_refused_by_name(empty: str) -> None:
    with pytest.raises(CredentialsError, match=r"^the key ID is empty$"):
        make_credentials(empty, KEY, "a test")
    with pytest.raises(CredentialsError, match=r"^the application key is empty$"):
        make_credentials(KEY_ID, empty, "a test")


def test_other_characters_are_refused_by_name() -> None:
    with pytest.raises(CredentialsError) as caught:
        make_credentials(KEY_ID, "\u041a" + KEY[1:], "a test")
    assert str(caught.value) == (
        "the application key holds the character U+041A (CYRILLIC CAPITAL LETTER KA), which no B2 key holds"
    )
    assert caught.value.hint == "copy the application key again, as plain text"
    assert KEY[1:] not in str(caught.value) + caught.value.hint


def test_a_control_character_is_refused() -> None:
    with pytest.raises(CredentialsError, match=r"U\+001B \(a control character\)"):
        make_credentials(KEY_ID + "\x1b[0m", KEY, "a test")


# --- judging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [(KEY_ID, KEY), (ACCOUNT_ID, MASTER_KEY), (MASTER_KEY_ID, MASTER_KEY)])
def test_a_well_shaped_pair_is_not_remarked_on(pair: tuple[str, str]) -> None:
    assert diagnose(*pair) == []


@pytest.mark.parametrize(
    ("key_id", "key", "message"),
    [
        (KEY, KEY_ID, "the key ID and the application key are swapped"),
        (MASTER_KEY, ACCOUNT_ID, "the key ID and the application key are swapped"),
        (ACCOUNT_ID, KEY, "an account ID is used as the key ID of an application key"),
        (KEY_ID, MASTER_KEY, "the key ID of an application key is used with the master application key"),
        (KEY_ID, "K002" + KEY[4:], "the key ID and the application key come from different keys"),
        (BUCKET_ID, KEY, "the key ID has the shape of a bucket ID"),
        (KEY, KEY, "the key ID has the shape of an application key"),
        (KEY_ID, KEY_ID, "the application key has the shape of a key ID"),
        (KEY_ID[:-2], KEY, "the key ID has 23 characters where B2's have 25: its end is missing"),
        (KEY_ID + "0", KEY, "the key ID has 26 characters where B2's have 25: something was added to it"),
        (KEY_ID, KEY[:-1], "the application key has 30 characters where B2's have 31: its end is missing"),
        (
            KEY_ID,
            KEY + "/",
            "the application key has 32 characters where B2's have 31: something was added to it",
        ),
        ("my-backup-key", KEY, "the key ID holds more than the digits 0-9 and a-f"),
        (KEY_ID, "correct horse", "the application key does not look like one of B2's"),
    ],
)
def test_each_classic_mistake_is_named(key_id: str, key: str, message: str) -> None:
    suspicions = [remark for remark in diagnose(key_id, key) if remark.is_suspicion]
    assert [remark.message for remark in suspicions] == [message]
    assert suspicions[0].hint


def test_two_mistakes_are_both_named() -> None:
    assert len(diagnose(KEY_ID[:-2], KEY[:-1])) == 2
    assert len(diagnose(ACCOUNT_ID, KEY[:-1])) == 2


def test_an_odd_shape_is_never_refused_before_the_server_has_answered() -> None:
    credentials = make_credentials("my-backup-key", "x", "a test")
    assert (credentials.key_id, credentials.key) == ("my-backup-key", "x")
    assert credentials.remarks


@given(st.text(), st.text())
def test_no_pair_whatever_makes_the_judge_fail_or_print_a_secret(key_id: str, key: str) -> None:
    for remark in diagnose(key_id, key):
        assert isinstance(remark, Remark)
        cleaned, _ = clean(key)
        if len(cleaned) > 12:
            assert cleaned not in remark.message + remark.hint


# --- the secret -------------------------------------------------------------------------------------------


def test_the_secret_is_in_no_text_about_the_credentials() -> None:
    credentials = make_credentials(KEY_ID, KEY, "a test")
    texts = [repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}", format(credentials)]
    assert not [text for text in texts if KEY in text]
    assert KEY_ID in repr(credentials)


@pytest.mark.parametrize("secret", [KEY, KEY[:-3], MASTER_KEY, MASTER_KEY[:-1], "0" + KEY])
def test_a_secret_in_the_place_of_the_key_id_is_not_shown_either(secret: str) -> None:
    assert secret not in repr(make_credentials(secret, KEY_ID, "a test"))


def test_credentials_are_the_clean_text_and_survive_being_passed_on() -> None:
    credentials = make_credentials(f" {KEY_ID}\n", f"\u200b{KEY}", "a test")
    assert credentials == Credentials(KEY_ID, KEY, "a test")
    assert pickle.loads(pickle.dumps(credentials)).key == KEY
