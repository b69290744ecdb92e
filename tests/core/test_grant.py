"""The grant: read from every shape of reply that B2's versions give."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.grant import (
    B2_NAMES,
    BY_B2_NAME,
    AllowedBucket,
    Capability,
    Grant,
    parse_authorize_reply,
    parse_capabilities,
)

# The list in b2sdk 2.13.1 (ALL_CAPABILITIES), and four more that Backblaze's other clients know.
KNOWN_TO_B2 = [
    "listKeys",
    "writeKeys",
    "deleteKeys",
    "listBuckets",
    "listAllBucketNames",
    "readBuckets",
    "writeBuckets",
    "deleteBuckets",
    "readBucketEncryption",
    "writeBucketEncryption",
    "readBucketRetentions",
    "writeBucketRetentions",
    "readFileRetentions",
    "writeFileRetentions",
    "readFileLegalHolds",
    "writeFileLegalHolds",
    "readBucketReplications",
    "writeBucketReplications",
    "bypassGovernance",
    "listFiles",
    "readFiles",
    "shareFiles",
    "writeFiles",
    "deleteFiles",
    "readBucketNotifications",
    "writeBucketNotifications",
    "readBucketLogging",
    "writeBucketLogging",
    "readBucketLifecycleRules",
    "writeBucketLifecycleRules",
]

V4: dict[str, Any] = {
    "accountId": "8f5033aa0860",
    "applicationKeyExpirationTimestamp": 1_800_000_000_000,
    "authorizationToken": "4_token",
    "apiInfo": {
        "storageApi": {
            "absoluteMinimumPartSize": 5_000_001,
            "recommendedPartSize": 100_000_001,
            "apiUrl": "https://api001.backblazeb2.com",
            "downloadUrl": "https://f001.backblazeb2.com",
            "s3ApiUrl": "https://s3.us-west-001.backblazeb2.com",
            "allowed": {
                "buckets": [{"id": "b1", "name": "photos"}, {"id": "b2", "name": None}],
                "capabilities": ["listFiles", "readFiles"],
                "namePrefix": "a/b",
            },
        }
    },
}
V3: dict[str, Any] = {
    "accountId": "8f5033aa0860",
    "applicationKeyExpirationTimestamp": None,
    "authorizationToken": "4_token",
    "apiInfo": {
        "groupsApi": {"capabilities": ["all"], "groupsApiUrl": "https://x", "infoType": "groupsApi"},
        "storageApi": {
            "absoluteMinimumPartSize": 5_000_000,
            "recommendedPartSize": 100_000_000,
            "apiUrl": "https://api001.backblazeb2.com",
            "downloadUrl": "https://f001.backblazeb2.com",
            "s3ApiUrl": "https://s3.us-west-001.backblazeb2.com",
            "bucketId": "b1",
            "bucketName": "photos",
            "capabilities": ["writeFiles"],
            "namePrefix": None,
            "infoType": "storageApi",
        },
    },
}
V2: dict[str, Any] = {
    "accountId": "8f5033aa0860",
    "authorizationToken": "4_token",
    "allowed": {
        "bucketId": None,
        "bucketName": None,
        "capabilities": ["listBuckets", "listFiles"],
        "namePrefix": None,
    },
    "apiUrl": "https://api001.backblazeb2.com",
    "downloadUrl": "https://f001.backblazeb2.com",
    "absoluteMinimumPartSize": 5_000_000,
    "recommendedPartSize": 100_000_000,
    "s3ApiUrl": "https://s3.us-west-001.backblazeb2.com",
}
V1: dict[str, Any] = {**V2, "minimumPartSize": 100_000_000}
del V1["s3ApiUrl"]


def changed(reply: Mapping[str, Any], *path: str, to: object = ...) -> dict[str, Any]:
    """Copy a reply with one field changed, or left out."""
    copy = dict(reply)
    if len(path) > 1:
        copy[path[0]] = changed(copy[path[0]], *path[1:], to=to)
    elif to is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = to
    return copy


# --- capabilities ---


def test_every_capability_that_b2_has_is_known_by_its_own_spelling() -> None:
    assert list(BY_B2_NAME) == KNOWN_TO_B2
    assert list(B2_NAMES.values()) == KNOWN_TO_B2


def test_a_capability_that_b2_adds_later_is_kept_by_name() -> None:
    known, unknown = parse_capabilities(["readFiles", "readMinds", "LISTFILES"])
    assert known == Capability.READ_FILES
    assert unknown == {"readMinds", "LISTFILES"}


@given(st.sets(st.sampled_from(KNOWN_TO_B2)), st.sets(st.text()))
def test_no_capability_is_lost_or_invented(names: set[str], others: set[str]) -> None:
    known, unknown = parse_capabilities([*names, *others])
    assert {B2_NAMES[one] for one in known} | unknown == names | others
    assert unknown.isdisjoint(KNOWN_TO_B2)


# --- the shapes of the reply ---


def test_a_v4_reply_with_several_buckets() -> None:
    assert parse_authorize_reply(V4) == Grant(
        account_id="8f5033aa0860",
        capabilities=Capability.LIST_FILES | Capability.READ_FILES,
        buckets=(AllowedBucket("b1", "photos"), AllowedBucket("b2", None)),
        prefix="a/b",
        expires_ms=1_800_000_000_000,
        absolute_minimum_part_size=5_000_001,
        recommended_part_size=100_000_001,
        s3_url="https://s3.us-west-001.backblazeb2.com",
    )


def test_a_v4_reply_for_every_bucket() -> None:
    reply = changed(V4, "apiInfo", "storageApi", "allowed", "buckets", to=None)
    assert parse_authorize_reply(reply).buckets is None


def test_a_v3_reply_with_a_part_for_the_partner_api() -> None:
    grant = parse_authorize_reply(V3)
    assert grant.buckets == (AllowedBucket("b1", "photos"),)
    assert grant.capabilities == Capability.WRITE_FILES
    assert (grant.prefix, grant.expires_ms, grant.unknown_capabilities) == ("", None, frozenset())


@pytest.mark.parametrize("reply", [V1, V2])
def test_a_flat_reply_of_the_first_versions(reply: dict[str, Any]) -> None:
    grant = parse_authorize_reply(reply)
    assert grant.buckets is None
    assert grant.capabilities == Capability.LIST_BUCKETS | Capability.LIST_FILES
    assert grant.s3_url == reply.get("s3ApiUrl", "")


def test_a_flat_reply_for_one_bucket_whose_name_is_not_told() -> None:
    reply = changed(V2, "allowed", "bucketId", to="b9")
    assert parse_authorize_reply(reply).buckets == (AllowedBucket("b9", None),)


def test_a_key_for_the_partner_api_alone_is_refused_in_words() -> None:
    for reply in (changed(V3, "apiInfo", "storageApi"), changed(V3, "apiInfo", "storageApi", to=None)):
        with pytest.raises(ValueError, match="not good for B2's storage API"):
            parse_authorize_reply(reply)


@given(
    version=st.sampled_from([1, 2, 3, 4]),
    capabilities=st.lists(st.sampled_from([*KNOWN_TO_B2, "new1"]), unique=True),
    prefix=st.one_of(st.none(), st.text()),
    expires=st.one_of(st.none(), st.integers(0, 1 << 45)),
    bucket=st.one_of(st.none(), st.tuples(st.text(min_size=1), st.one_of(st.none(), st.text()))),
)
def test_every_version_tells_the_same_grant(
    version: int,
    capabilities: list[str],
    prefix: str | None,
    expires: int | None,
    bucket: tuple[str, str | None] | None,
) -> None:
    allowed: dict[str, Any] = {"capabilities": capabilities, "namePrefix": prefix}
    if version == 4:
        allowed["buckets"] = None if bucket is None else [{"id": bucket[0], "name": bucket[1]}]
    else:
        allowed["bucketId"], allowed["bucketName"] = bucket or (None, None)
    sizes = {"absoluteMinimumPartSize": 7, "recommendedPartSize": 9, "s3ApiUrl": "https://s3"}
    reply: dict[str, Any] = {"accountId": "acc", "authorizationToken": "t"}
    if version <= 2:
        reply |= {**sizes, "allowed": allowed}
    elif version == 3:
        reply["apiInfo"] = {"storageApi": {**sizes, **allowed}}
    else:
        reply["apiInfo"] = {"storageApi": {**sizes, "allowed": allowed}}
    reply["applicationKeyExpirationTimestamp"] = expires

    grant = parse_authorize_reply(reply)

    assert {B2_NAMES[one] for one in grant.capabilities} | grant.unknown_capabilities == set(capabilities)
    assert grant.buckets == (None if bucket is None else (AllowedBucket(*bucket),))
    assert (grant.account_id, grant.prefix, grant.expires_ms) == ("acc", prefix or "", expires)
    assert (grant.absolute_minimum_part_size, grant.recommended_part_size, grant.s3_url) == (
        7,
        9,
        "https://s3",
    )


STORAGE = ("apiInfo", "storageApi")
ALLOWED = (*STORAGE, "allowed")


@pytest.mark.parametrize(
    "path",
    [
        ("accountId",),
        (*STORAGE, "absoluteMinimumPartSize"),
        (*STORAGE, "recommendedPartSize"),
        (*STORAGE, "allowed"),
        (*ALLOWED, "capabilities"),
    ],
)
def test_a_reply_without_a_field_is_refused_by_the_name_of_the_field(path: tuple[str, ...]) -> None:
    missing = "capabilities" if path[-1] == "allowed" else path[-1]  # without "allowed" it is read as v3
    with pytest.raises(ValueError, match=f"{missing} is missing or odd"):
        parse_authorize_reply(changed(V4, *path))


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        (("accountId",), None),
        (("accountId",), 7),
        (("applicationKeyExpirationTimestamp",), "soon"),
        (("applicationKeyExpirationTimestamp",), 1.5),
        (("apiInfo",), None),
        (("apiInfo",), []),
        (STORAGE, "x"),
        ((*STORAGE, "absoluteMinimumPartSize"), "5000000"),
        ((*STORAGE, "recommendedPartSize"), True),
        (ALLOWED, None),
        ((*ALLOWED, "capabilities"), "readFiles"),
        ((*ALLOWED, "capabilities"), [["readFiles"]]),
        ((*ALLOWED, "capabilities"), None),
        ((*ALLOWED, "buckets"), "photos"),
        ((*ALLOWED, "buckets"), ["photos"]),
        ((*ALLOWED, "buckets"), [{"name": "photos"}]),
        ((*ALLOWED, "buckets"), [{"id": "b1", "name": 3}]),
        ((*ALLOWED, "namePrefix"), 3),
    ],
)
def test_a_reply_with_an_odd_field_is_refused(path: tuple[str, ...], odd: object) -> None:
    with pytest.raises(ValueError, match=f"{path[-1] if path[-1] != 'buckets' else ''}.*is missing or odd"):
        parse_authorize_reply(changed(V4, *path, to=odd))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PATHS = st.sampled_from(
    [
        ("accountId",),
        ("apiInfo",),
        ("applicationKeyExpirationTimestamp",),
        STORAGE,
        ALLOWED,
        *((*STORAGE, name) for name in ("absoluteMinimumPartSize", "recommendedPartSize", "s3ApiUrl")),
        *((*ALLOWED, name) for name in ("buckets", "capabilities", "namePrefix")),
    ]
)


@given(PATHS, JSON)
def test_whatever_json_a_field_holds_there_is_a_grant_or_a_ValueError(
    path: tuple[str, ...], value: object
) -> None:
    try:
        grant = parse_authorize_reply(changed(V4, *path, to=value))
    except ValueError:
        return
    assert isinstance(grant.account_id, str)
    assert isinstance(grant.prefix, str)
    assert isinstance(grant.expires_ms, int | None)
    assert isinstance(grant.absolute_minimum_part_size, int)
    assert all(isinstance(bucket.bucket_id, str) for bucket in grant.buckets or ())
    assert all(isinstance(name, str) for name in grant.unknown_capabilities)


# --- questions to a grant ---


def test_a_grant_answers_for_buckets_names_and_rights() -> None:
    grant = parse_authorize_reply(V4)
    assert grant.covers_bucket("b1")
    assert grant.covers_bucket("b2")
    assert not grant.covers_bucket("b3")
    assert parse_authorize_reply(V2).covers_bucket("any")
    assert grant.covers_name("a/bc")
    assert not grant.covers_name("a/")
    assert grant.has(Capability.LIST_FILES, Capability.READ_FILES)
    assert not grant.has(Capability.LIST_FILES, Capability.WRITE_FILES)
    assert grant.has()


def test_a_grant_expires_at_its_millisecond_or_never() -> None:
    grant = parse_authorize_reply(V4)
    assert not grant.has_expired(1_799_999_999_999)
    assert grant.has_expired(1_800_000_000_000)
    assert not parse_authorize_reply(V3).has_expired(1 << 60)
