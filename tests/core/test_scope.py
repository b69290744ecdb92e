"""Scope: the root of the mount is what the key and SOURCE say, and directories lie where names say."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from b2mount.core.grant import AllowedBucket, Capability, Grant
from b2mount.core.scope import (
    UNKNOWN_BUCKET,
    Place,
    RootBucket,
    Scope,
    ScopeError,
    Source,
    admits,
    is_of_bucket,
    list_prefix,
    needs_bucket_id,
    next_step,
    parse_source,
    place,
    resolve_scope,
    scope_id,
)

PHOTOS = AllowedBucket("b1", "photos")
MUSIC = AllowedBucket("b2", "music")
GONE = AllowedBucket("b3", None)
READ = Capability.LIST_FILES | Capability.READ_FILES

# Few letters, so that prefixes and directories meet often.
NAMES = st.text(st.sampled_from("ab/"), max_size=7)
DIRECTORIES = st.one_of(st.just(""), NAMES.map(lambda text: text + "/"))


def grant(
    *buckets: AllowedBucket,
    prefix: str = "",
    everywhere: bool = False,
    capabilities: Capability = READ,
) -> Grant:
    return Grant("acc", capabilities, None if everywhere else buckets, prefix, None)


# --- SOURCE ---


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("photos", Source("photos", "")),
        ("photos/", Source("photos", "")),
        ("photos/a", Source("photos", "a/")),
        ("photos/a/", Source("photos", "a/")),
        ("photos/a/b c", Source("photos", "a/b c/")),
        ("Old.Bucket_1/x", Source("Old.Bucket_1", "x/")),
        ("b2://photos/a", Source("photos", "a/")),
    ],
)
def test_a_source_is_a_bucket_and_a_directory(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text", ["", "/", "/photos", "photos//a", "photos/a//b", "photos/a//", "photos:a", "my bucket", "b2://"]
)
def test_a_source_of_another_form_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(ScopeError) as caught:
        parse_source(text)
    assert "BUCKET/PREFIX" in caught.value.hint


@given(st.text())
def test_any_text_is_a_source_or_a_scope_error(text: str) -> None:
    try:
        source = parse_source(text)
    except ScopeError:
        return
    assert source.prefix == "" or source.prefix.endswith("/")
    assert "//" not in source.prefix
    assert not source.prefix.startswith("/")
    assert parse_source(f"{source.bucket}/{source.prefix}") == source


# --- places ---


@pytest.mark.parametrize(
    ("directory", "limit", "where"),
    [
        ("", "", Place.INSIDE),
        ("a/", "", Place.INSIDE),
        ("", "a", Place.PARTIAL),
        ("", "a/", Place.ABOVE),
        ("", "a/b", Place.ABOVE),
        ("a/", "a/b", Place.PARTIAL),
        ("a/b/", "a/b", Place.INSIDE),
        ("a/bc/", "a/b", Place.INSIDE),
        ("a/b/", "a/b/", Place.INSIDE),
        ("a/", "a/b/", Place.ABOVE),
        ("a/", "a/b/c", Place.ABOVE),
        ("a/c/", "a/b", Place.OUTSIDE),
        ("a/b/", "a/bc", Place.OUTSIDE),
        ("ab/", "a/", Place.OUTSIDE),
        ("a/", "a//b", Place.ABOVE),
    ],
)
def test_places_by_example(directory: str, limit: str, where: Place) -> None:
    assert place(directory, limit) is where


@given(DIRECTORIES, NAMES)
def test_a_place_says_which_names_below_are_covered(directory: str, limit: str) -> None:
    """Compare with all short names under the directory, one by one."""
    where = place(directory, limit)
    rest = limit[len(directory) :]
    # Enough to meet every case: the way to the limit, ways off it, and names just before its end.
    tails = {
        "a",
        "b",
        "ab",
        "ba",
        "a/a",
        "b/b",
        rest + "a",
        rest + "b",
        *(rest[:n] + "a" for n in range(len(rest))),
    }
    covered = {tail: admits(directory + tail, limit) for tail in tails}
    if where is Place.INSIDE:
        assert all(covered.values())
    elif where is Place.OUTSIDE:
        assert not any(covered.values())
    else:
        assert any(covered.values())
        assert all(tail.startswith(rest) for tail, yes in covered.items() if yes)


@given(DIRECTORIES, NAMES)
def test_steps_from_above_lead_to_the_covered_names_and_end(directory: str, limit: str) -> None:
    assume(place(directory, limit) is Place.ABOVE)
    while place(directory, limit) is Place.ABOVE:
        step = next_step(directory, limit)
        assert "/" not in step
        assert len(directory) < len(limit)
        directory = f"{directory}{step}/"
    assert place(directory, limit) in (Place.INSIDE, Place.PARTIAL)
    assert directory == limit[: limit.rfind("/") + 1]


@given(DIRECTORIES, NAMES)
def test_a_covered_name_lies_in_no_directory_outside(directory: str, tail: str) -> None:
    name = directory + tail
    for end in range(len(name) + 1):
        limit = name[:end]
        for cut in [0, *(n + 1 for n, letter in enumerate(name) if letter == "/")]:
            assert place(name[:cut], limit) is not Place.OUTSIDE


@given(DIRECTORIES, NAMES)
def test_the_prefix_to_list_by_is_one_that_b2_accepts_and_misses_nothing(directory: str, limit: str) -> None:
    where = place(directory, limit)
    if where in (Place.ABOVE, Place.OUTSIDE):
        with pytest.raises(ValueError, match="no listing"):
            list_prefix(directory, limit)
        return
    prefix = list_prefix(directory, limit)
    assert prefix.startswith(limit)  # else B2 answers 401
    assert prefix.startswith(directory)
    for tail in ("", "a", "b", "a/b", limit[len(directory) :] + "a"):
        name = directory + tail
        assert name.startswith(prefix) == admits(name, limit)


def test_there_is_no_next_step_but_above() -> None:
    for directory, limit in (("a/", "a/"), ("a/", "a/b"), ("b/", "a/b/"), ("", "")):
        with pytest.raises(ValueError, match="not above"):
            next_step(directory, limit)


# --- the root ---


def root(bucket: AllowedBucket) -> RootBucket:
    assert bucket.name is not None
    return RootBucket(bucket.bucket_id, bucket.name)


@pytest.mark.parametrize(
    ("prefix", "directory"),
    [("", ""), ("a/b/", "a/b/"), ("a/b", "a/"), ("a", ""), ("a/", "a/"), ("/x", "/")],
)
def test_a_key_for_one_bucket_mounts_its_prefix(prefix: str, directory: str) -> None:
    scope = resolve_scope(grant(PHOTOS, prefix=prefix), None)
    assert scope == Scope(root(PHOTOS), directory, prefix, (root(PHOTOS),))
    assert place(scope.directory, scope.limit) in (Place.INSIDE, Place.PARTIAL)


def test_a_key_for_several_buckets_mounts_one_directory_a_bucket() -> None:
    scope = resolve_scope(grant(PHOTOS, MUSIC, prefix="a/b"), None)
    assert scope == Scope(None, "", "a/b", (root(PHOTOS), root(MUSIC)))


def test_a_bucket_that_is_gone_is_left_out_of_several() -> None:
    scope = resolve_scope(grant(PHOTOS, GONE), None)
    assert scope == Scope(None, "", "", (root(PHOTOS),), gone=("b3",))


@pytest.mark.parametrize("source", [None, Source("photos", "")])
@pytest.mark.parametrize("buckets", [(), (GONE,), (GONE, GONE)])
def test_a_key_whose_every_bucket_is_gone_mounts_nothing(
    buckets: tuple[AllowedBucket, ...], source: Source | None
) -> None:
    with pytest.raises(ScopeError, match="no bucket of this key exists"):
        resolve_scope(grant(*buckets), source)


def test_a_key_whose_bucket_is_gone_is_told_which_one_that_was() -> None:
    with pytest.raises(ScopeError) as caught:
        resolve_scope(grant(GONE), None)
    assert caught.value.hint.startswith("it covers b3;")
    with pytest.raises(ScopeError) as caught:
        resolve_scope(grant(), None)
    assert caught.value.hint.startswith("it covers none;")


def test_an_account_wide_key_asks_which_buckets_there_are() -> None:
    key = grant(everywhere=True, prefix="a/", capabilities=READ | Capability.LIST_BUCKETS)
    assert resolve_scope(key, None) == Scope(None, "", "a/", None)


def test_an_account_wide_key_without_listBuckets_finds_no_bucket() -> None:
    with pytest.raises(ScopeError, match="lacks listBuckets") as caught:
        resolve_scope(grant(everywhere=True), None)
    assert caught.value.hint == (
        "name the bucket: b2mount mount BUCKET MOUNTPOINT; or use a key with listBuckets"
    )


def test_a_source_picks_a_bucket_of_the_account() -> None:
    scope = resolve_scope(grant(everywhere=True), Source("photos", "a/"))
    assert scope == Scope(RootBucket(None, "photos"), "a/", "", (RootBucket(None, "photos"),))


@pytest.mark.parametrize(
    ("rights", "read_only", "needed"),
    [
        (Capability.READ_FILES, False, False),
        (Capability.READ_FILES | Capability.WRITE_FILES, True, False),
        (Capability.READ_FILES | Capability.WRITE_FILES, False, True),
        (Capability.READ_FILES | Capability.LIST_FILES, True, True),
        (Capability.WRITE_FILES, False, True),
    ],
)
def test_listing_and_writing_take_a_buckets_id_and_reading_does_not(
    rights: Capability, read_only: bool, needed: bool
) -> None:
    key = grant(everywhere=True, capabilities=rights)
    assert resolve_scope(key, Source("photos", "")).single == RootBucket(None, "photos")
    assert needs_bucket_id(key, read_only=read_only) is needed


def test_a_file_id_tells_its_bucket_as_far_as_it_has_the_known_form() -> None:
    file_id = "4_z27c88f1d182b150646ff0b16_f1004ba650fe24e6b_d20150809_m012853_c100_v0009990_t0000"
    assert is_of_bucket(file_id, "27c88f1d182b150646ff0b16")
    assert not is_of_bucket(file_id, "27c88f1d182b150646ff0b17")
    assert is_of_bucket(file_id, UNKNOWN_BUCKET)
    assert is_of_bucket("another form", "27c88f1d182b150646ff0b17")


def test_a_source_picks_one_of_several_buckets() -> None:
    scope = resolve_scope(grant(PHOTOS, MUSIC, GONE), Source("music", "x/"))
    assert scope == Scope(root(MUSIC), "x/", "", (root(MUSIC),))


@pytest.mark.parametrize(
    ("directory", "where"), [("", Place.ABOVE), ("a/", Place.ABOVE), ("a/b/", Place.INSIDE)]
)
def test_a_source_above_the_prefix_is_the_root_all_the_same(directory: str, where: Place) -> None:
    scope = resolve_scope(grant(PHOTOS, prefix="a/b/"), Source("photos", directory))
    assert scope == Scope(root(PHOTOS), directory, "a/b/", (root(PHOTOS),))
    assert place(scope.directory, scope.limit) is where


def test_a_source_in_another_bucket_is_refused_with_what_the_key_covers() -> None:
    with pytest.raises(ScopeError) as caught:
        resolve_scope(grant(PHOTOS, MUSIC, prefix="a/"), Source("films", ""))
    assert str(caught.value).splitlines() == [
        "the key does not cover bucket 'films'",
        "it covers buckets 'photos', 'music', names that begin with 'a/'",
    ]


def test_a_source_outside_the_prefix_is_refused_with_what_the_key_covers() -> None:
    with pytest.raises(ScopeError) as caught:
        resolve_scope(grant(PHOTOS, prefix="a/bc"), Source("photos", "a/b/"))
    assert str(caught.value).splitlines() == [
        "the key does not cover 'a/b/' in bucket 'photos'",
        "it covers bucket 'photos', names that begin with 'a/bc'",
    ]


@given(
    st.lists(st.sampled_from([PHOTOS, MUSIC, GONE]), max_size=3, unique=True),
    st.booleans(),
    NAMES,
    st.one_of(st.none(), st.builds(Source, st.sampled_from(["photos", "music", "films"]), DIRECTORIES)),
    st.sampled_from([READ, READ | Capability.LIST_BUCKETS, Capability(0)]),
)
def test_a_scope_never_shows_more_than_the_key_covers(
    buckets: list[AllowedBucket],
    everywhere: bool,
    prefix: str,
    source: Source | None,
    capabilities: Capability,
) -> None:
    key = grant(*buckets, everywhere=everywhere, prefix=prefix, capabilities=capabilities)
    try:
        scope = resolve_scope(key, source)
    except ScopeError as exc:
        assert len(str(exc).splitlines()) == 2
        return
    assert scope.limit == prefix
    assert place(scope.directory, scope.limit) is not Place.OUTSIDE
    for bucket in scope.buckets or ():
        assert everywhere or AllowedBucket(str(bucket.bucket_id), bucket.name) in buckets
    if source is not None:
        assert scope.single is not None
        assert (scope.single.name, scope.directory) == (source.bucket, source.prefix)


# --- state directories ---


SCOPES = st.builds(
    Scope,
    st.sampled_from([None, RootBucket("b1", "photos"), RootBucket(None, "music")]),
    DIRECTORIES,
    NAMES,
    st.sampled_from([None, (RootBucket("b1", "photos"), RootBucket("b2", "music"))]),
)


@given(st.text(), SCOPES)
def test_a_scope_id_is_a_safe_file_name(account: str, scope: Scope) -> None:
    name = scope_id(account, scope)
    assert 1 <= len(name) <= 64
    assert all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in name)
    assert not name.startswith("-")
    assert scope_id(account, scope) == name


def test_a_scope_id_can_be_read() -> None:
    scope = resolve_scope(grant(PHOTOS, prefix="2026/summer/"), None)
    assert scope_id("acc", scope).startswith("photos-2026-summer-")


def test_a_scope_id_is_readable_even_where_the_bucket_name_is_not() -> None:
    scope = resolve_scope(grant(everywhere=True), Source("_", ""))
    assert scope_id("acc", scope).startswith("bucket-")


def test_different_scopes_have_different_ids() -> None:
    everywhere = grant(everywhere=True, capabilities=Capability.LIST_BUCKETS)
    scopes = [
        resolve_scope(grant(PHOTOS), None),
        resolve_scope(grant(MUSIC), None),
        resolve_scope(grant(PHOTOS, prefix="a"), None),
        resolve_scope(grant(PHOTOS, prefix="b"), None),
        resolve_scope(grant(PHOTOS, prefix="a/"), None),
        resolve_scope(grant(PHOTOS, prefix="a-/"), None),
        resolve_scope(grant(PHOTOS, prefix="a/"), Source("photos", "")),
        resolve_scope(grant(PHOTOS, MUSIC), None),
        resolve_scope(grant(PHOTOS, MUSIC, prefix="a/"), None),
        resolve_scope(everywhere, None),
    ]
    ids = {scope_id(account, scope) for scope in scopes for account in ("acc", "acc2")}
    assert len(ids) == 2 * len(scopes)


def test_another_key_for_the_same_part_of_a_bucket_has_the_same_id() -> None:
    narrow = resolve_scope(grant(PHOTOS, prefix="a/"), None)
    wide = resolve_scope(grant(everywhere=True), Source("photos", "a/"))
    assert scope_id("acc", narrow) == scope_id("acc", wide)


def test_the_id_of_several_buckets_ignores_their_order_and_the_death_of_one() -> None:
    before = resolve_scope(grant(PHOTOS, MUSIC, AllowedBucket("b3", "films")), None)
    after = resolve_scope(grant(GONE, MUSIC, PHOTOS), None)
    assert scope_id("acc", before) == scope_id("acc", after)
