"""Keys made, listed and deleted through the store."""

import time

import pytest

from b2mount.core.errors import AccessDenied, KeyRejected
from b2mount.core.grant import Capability
from b2mount.store.keys import Keys
from tests.store.conftest import Shop
from tests.support.emulator import Emulator

READ = Capability.LIST_FILES | Capability.READ_FILES


async def test_a_key_is_made_works_is_listed_and_deleted(shop: Shop, emulator: Emulator, bucket: str) -> None:
    keys = Keys(shop.plain().caller)
    bucket_id = emulator.bucket_id(bucket)
    made = await keys.create("reader", READ, bucket_ids=[bucket_id], prefix="a/", seconds=3600)
    assert made.secret not in repr(made)
    assert (made.row.name, made.row.capabilities, made.row.prefix) == ("reader", READ, "a/")
    assert made.row.bucket_ids == (bucket_id,)
    assert made.row.expires_ms is not None
    assert 3300 < made.row.expires_ms / 1000 - time.time() < 3900
    grant = await shop.plain((made.row.key_id, made.secret)).authorize()
    assert (grant.capabilities, grant.prefix) == (READ, "a/")
    assert made.row in await keys.list()
    await keys.delete(made.row.key_id)
    assert made.row.key_id not in [row.key_id for row in await keys.list()]
    with pytest.raises(KeyRejected):
        await shop.plain((made.row.key_id, made.secret)).authorize()


async def test_an_account_wide_key_has_no_buckets_and_no_end(shop: Shop) -> None:
    keys = Keys(shop.plain().caller)
    made = await keys.create("everywhere", READ)
    assert (made.row.bucket_ids, made.row.prefix, made.row.expires_ms) == (None, "", None)
    await keys.delete(made.row.key_id)


async def test_a_key_that_may_not_manage_keys_is_refused(shop: Shop, emulator: Emulator, bucket: str) -> None:
    keys = Keys(shop.plain(emulator.create_key(["listFiles"], [bucket])).caller)
    with pytest.raises(AccessDenied):
        await keys.list()
    with pytest.raises(AccessDenied):
        await keys.create("x", READ)
    with pytest.raises(AccessDenied):
        await keys.delete("0010123456789ab0000000001")
