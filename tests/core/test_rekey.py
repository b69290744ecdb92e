"""Which key may take the place of another under a running mount."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.grant import AllowedBucket, Capability, Grant
from b2mount.core.rekey import why_unfit
from b2mount.core.scope import Source, resolve_scope

FILES = Capability.LIST_FILES | Capability.READ_FILES | Capability.WRITE_FILES
ONE = (AllowedBucket("b1", "one"),)
TWO = (*ONE, AllowedBucket("b2", "two"))
OLD = Grant("acc", FILES, ONE, "a/", None)


def unfit(new: Grant, old: Grant = OLD, source: Source | None = None) -> str | None:
    return why_unfit(old, new, resolve_scope(old, source))


def test_the_same_and_wider_keys_will_do() -> None:
    for new in (OLD, replace(OLD, prefix=""), replace(OLD, buckets=TWO), replace(OLD, buckets=None)):
        assert unfit(new) is None
    assert unfit(replace(OLD, capabilities=FILES | Capability.DELETE_FILES, expires_ms=5)) is None


def test_another_account_will_not_do() -> None:
    assert unfit(replace(OLD, account_id="other")) == (
        "it is for account other, and the mount shows account acc"
    )


def test_a_bucket_less_will_not_do() -> None:
    assert unfit(replace(OLD, buckets=TWO[1:])) == "it does not open bucket 'one'"
    assert unfit(replace(OLD, buckets=ONE), replace(OLD, buckets=TWO)) == "it does not open bucket 'two'"


def test_one_bucket_for_all_of_them_will_not_do() -> None:
    old = replace(OLD, buckets=None, capabilities=FILES | Capability.LIST_BUCKETS)
    assert unfit(replace(old, buckets=TWO), old) == "it does not open every bucket of the account"
    assert unfit(replace(old, capabilities=FILES), old) == (
        "it does not open the list of buckets (it lacks listBuckets)"
    )


def test_a_right_less_will_not_do_unless_no_operation_needs_it() -> None:
    assert unfit(replace(OLD, capabilities=FILES & ~Capability.READ_FILES)) == (
        "it lacks readFiles, which the old one has"
    )
    old = replace(OLD, capabilities=FILES | Capability.SHARE_FILES)
    assert unfit(OLD, old) is None


def test_a_mount_that_began_without_its_buckets_id_takes_no_key_that_would_list() -> None:
    old = replace(OLD, buckets=None, capabilities=Capability.READ_FILES)
    source = Source("one", "a/")
    for new in (old, replace(old, buckets=ONE), replace(old, buckets=TWO)):
        assert unfit(new, old, source) is None
    assert unfit(replace(old, buckets=TWO[1:]), old, source) == "it does not open bucket 'one'"
    assert unfit(replace(old, capabilities=FILES), old, source) == (
        "it lists files, which takes the bucket's ID, and this mount began without it: mount again"
    )


def test_what_counts_is_what_the_mount_shows_not_what_the_old_key_opened() -> None:
    source = Source("one", "a/b/")
    assert unfit(replace(OLD, prefix="a/b/"), source=source) is None
    assert unfit(replace(OLD, prefix="a/b/c"), source=source) is not None


@given(st.text("ab/", max_size=6), st.text("ab/", max_size=6))
def test_a_prefix_will_do_exactly_where_it_covers_all_names_that_show(old: str, new: str) -> None:
    before = replace(OLD, prefix=old)
    assert (unfit(replace(OLD, prefix=new), before) is None) == old.startswith(new)
