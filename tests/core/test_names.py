"""Names: every B2 component has one entry and back, and nothing climbs out of a directory."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from b2mount.core import names
from b2mount.core.errors import B2MountError, IllegalName, NameNotUnicode, NameTooLong
from b2mount.core.names import Entry, parse_shown, shown

PIECES = [
    "%b2-",
    "%",
    "b2-",
    "pct",
    "nul",
    "file",
    "empty",
    "dot",
    "uD800",
    "u0041",
    ".",
    "..",
    "\0",
    "\ud800",
]
# Whole Unicode with lone surrogates, and texts made of pieces of the escapes themselves.
COMPONENTS = st.one_of(
    st.text(st.characters(exclude_characters="/", exclude_categories=())),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
)
ORDINARY = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: "%b2-" not in text and text not in (".", "..")
)


@pytest.mark.parametrize(
    ("component", "twin", "entry"),
    [
        ("", False, "%b2-empty"),
        (".", False, "%b2-dot"),
        ("..", False, "%b2-dotdot"),
        ("...", False, "..."),
        ("a", True, "a%b2-file"),
        ("", True, "%b2-empty%b2-file"),
        (".", True, "%b2-dot%b2-file"),
        ("a\0b", False, "a%b2-nulb"),
        ("x%b2-y", False, "x%b2-pctb2-y"),
        ("%b2-dot", False, "%b2-pctb2-dot"),
        ("a%b2-file", False, "a%b2-pctb2-file"),
        ("\udfff", False, "%b2-uDFFF"),
        ("100% b2 -\n\\", False, "100% b2 -\n\\"),
        ("%B2-dot", False, "%B2-dot"),
    ],
)
def test_the_escapes_are_those_of_the_table(component: str, twin: bool, entry: str) -> None:
    assert shown(component, twin=twin) == entry
    assert parse_shown(entry) == Entry(component, twin)


@given(COMPONENTS, st.booleans())
def test_every_component_comes_back_from_its_entry(component: str, twin: bool) -> None:
    assert parse_shown(shown(component, twin=twin)) == (component, twin)


@given(COMPONENTS, st.booleans(), COMPONENTS, st.booleans())
def test_two_components_never_share_an_entry(a: str, a_twin: bool, b: str, b_twin: bool) -> None:
    same = (a, a_twin) == (b, b_twin)
    assert (shown(a, twin=a_twin) == shown(b, twin=b_twin)) == same


@given(COMPONENTS, st.booleans())
def test_an_entry_is_always_one_that_a_directory_can_hold(component: str, twin: bool) -> None:
    entry = shown(component, twin=twin)
    assert entry not in ("", ".", "..")
    assert "/" not in entry
    assert "\0" not in entry
    assert names.decode_entry(names.encode_entry(entry)) == entry


@given(ORDINARY)
def test_an_ordinary_name_is_shown_unchanged(component: str) -> None:
    assert shown(component) == component


@given(COMPONENTS)
@example("%b2-pct")
@example("%b2-u0041")
@example("%b2-uD80")
@example("%b2-ud800")
@example("%b2-filex")
@example("%b2-file%b2-file")
@example("a%b2-empty")
@example("%b2-empty%b2-empty")
@example("%b2-dotdotdot")
@example("%b2-")
def test_an_entry_is_either_exactly_what_shown_makes_or_refused(entry: str) -> None:
    try:
        component, twin = parse_shown(entry)
    except IllegalName:
        return
    assert shown(component, twin=twin) == entry


@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "..",
        "a/b",
        "%b2-file",
        "%b2-file/x",
        "a\0",
        "\ud800",
        "%b2-",
        "%b2-pct",
        "%b2-pctb2",
        "%b2-dotx",
        "x%b2-dot",
    ],
)
def test_text_that_shown_never_makes_is_refused(entry: str) -> None:
    with pytest.raises(IllegalName):
        parse_shown(entry)


def test_a_component_with_a_slash_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not one component"):
        shown("a/b")


@given(st.text())
def test_a_name_is_its_components_joined(name: str) -> None:
    components = names.split(name)
    assert "/".join(components) == name
    assert not any("/" in component for component in components)


@pytest.mark.parametrize("raw", [b"\xff", b"a\xed\xa0\x80", b"\xc0\x80", b"caf\xe9"])
def test_an_entry_that_is_not_utf8_is_refused(raw: bytes) -> None:
    with pytest.raises(NameNotUnicode):
        names.decode_entry(raw)


@given(st.binary())
def test_an_entry_from_the_kernel_is_kept_exactly_or_refused(raw: bytes) -> None:
    try:
        entry = names.decode_entry(raw)
    except NameNotUnicode:
        return
    assert names.encode_entry(entry) == raw


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a" * 1024, True),
        ("a" * 1025, False),
        ("é" * 512, True),
        ("é" * 513, False),
        ("\U0001f600" * 256, True),
        ("\U0001f600" * 257, False),
        ("\U0001f600" * 300, False),
        ("a" * 255, True),
    ],
)
def test_b2_holds_names_of_up_to_1024_bytes(name: str, fits: bool) -> None:
    assert names.too_long(name) is not fits


@pytest.mark.parametrize(
    ("component", "size", "marks"),
    [
        (".bzEmpty", 0, True),
        (".bzEmpty", 1, False),
        ("", 0, True),
        ("", 5, False),
        (".bzempty", 0, False),
        ("a", 0, False),
    ],
)
def test_placeholders_are_empty_and_have_one_of_two_names(component: str, size: int, marks: bool) -> None:
    assert names.is_placeholder(component, size) is marks


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", IllegalName),
        ("/a", IllegalName),
        ("a/", IllegalName),
        ("a//b", IllegalName),
        ("a\\b", IllegalName),
        ("a\x7fb", IllegalName),
        ("a\x1f", IllegalName),
        ("a\0", IllegalName),
        ("a\nb", IllegalName),
        ("a" * 251, NameTooLong),
        ("é" * 126, NameTooLong),
        ("/".join(["a" * 204] * 5) + "a", NameTooLong),
        ("\udc80", NameNotUnicode),
        ("b/\ud83d", NameNotUnicode),
    ],
)
def test_what_b2_would_refuse_is_refused_here(name: str, error: type[B2MountError]) -> None:
    with pytest.raises(error):
        names.check_uploadable(name)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a" * 250,
        "é" * 125,
        "/".join(["a" * 204] * 5),  # 1024 bytes
        "a/.bzEmpty",
        "./../...",
        " ",
        "100%/+ ~",
        "写真/\U0001f600",
        "\x80\u2028",
    ],
)
def test_what_b2_accepts_is_accepted_here(name: str) -> None:
    names.check_uploadable(name)


@given(st.text(st.characters(exclude_categories=())))
def test_a_name_is_uploadable_by_the_rules_of_the_docs(name: str) -> None:
    """The rules once more, as one plain predicate."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        with pytest.raises(NameNotUnicode):
            names.check_uploadable(name)
        return
    legal = (
        1 <= len(raw) <= 1024
        and not any(code < 32 or code == 127 for code in raw)
        and b"\\" not in raw
        and not raw.startswith(b"/")
        and not raw.endswith(b"/")
        and b"//" not in raw
        and all(len(part) <= 250 for part in raw.split(b"/"))
    )
    if legal:
        names.check_uploadable(name)
    else:
        with pytest.raises((IllegalName, NameTooLong)):
            names.check_uploadable(name)


@pytest.mark.parametrize(
    ("component", "error"),
    [
        (".bzEmpty", IllegalName),
        ("", IllegalName),
        ("a/b", IllegalName),
        ("a\tb", IllegalName),
        ("a\\b", IllegalName),
        ("a" * 251, NameTooLong),
        ("\ud800", NameNotUnicode),
    ],
)
def test_people_cannot_make_these(component: str, error: type[B2MountError]) -> None:
    with pytest.raises(error):
        names.check_new_component(component)


@pytest.mark.parametrize("component", ["a", ".bzEmpty2", ".bzempty", ".", "..", "a" * 250, "x y%"])
def test_people_can_make_these(component: str) -> None:
    names.check_new_component(component)
