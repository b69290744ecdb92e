"""The authorization that is sent before trio is there: one call, told to who asks first, failures too."""

import os
import socket
import subprocess
import sys

import pytest
import trio

from b2mount.core.errors import B2Unavailable, KeyRejected
from b2mount.store.early import EarlyAuthorization
from tests.contract.worlds import Key
from tests.store.conftest import Shop
from tests.support.emulator import Emulator


def early(emulator: Emulator, secret: str | None = None, endpoint: str | None = None) -> EarlyAuthorization:
    key = Key(emulator.master_key_id, secret or emulator.master_key)
    return EarlyAuthorization(key, endpoint=endpoint or emulator.url, io_timeout=60.0)


async def test_one_call_is_sent_over_a_connection_that_the_next_call_uses(
    emulator: Emulator, bucket: str, shop: Shop
) -> None:
    since = emulator.last_seq()
    store = shop.plain(early=early(emulator))
    assert (await store.authorize()).account_id == emulator.account_id
    await store.list_names(emulator.bucket_id(bucket), "")
    assert [entry["call"] for entry in emulator.log(since)] == ["b2_authorize_account", "b2_list_file_names"]
    assert store.counters.totals().classes == {"A": 0, "B": 0, "C": 2}
    await store.authorize()
    assert emulator.log(since)[-1]["call"] == "b2_authorize_account", "only the first was asked for early"


async def test_a_refused_key_is_refused_as_by_a_call_of_ones_own(emulator: Emulator, shop: Shop) -> None:
    wrong = "K001" + "y" * 27
    with pytest.raises(KeyRejected) as refused:
        await shop.plain((emulator.master_key_id, wrong)).authorize()
    with pytest.raises(KeyRejected) as told:
        await shop.plain((emulator.master_key_id, wrong), early=early(emulator, wrong)).authorize()
    assert str(told.value) == str(refused.value)
    assert wrong not in repr(told.value.__cause__)


async def test_a_server_that_is_not_there_is_told_as_by_a_call_of_ones_own(
    emulator: Emulator, shop: Shop
) -> None:
    with socket.socket() as bound:  # not listening: it refuses
        bound.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(B2Unavailable) as refused:
            await shop.plain(endpoint=nowhere).authorize()
        with pytest.raises(B2Unavailable) as told:
            await shop.plain(endpoint=nowhere, early=early(emulator, endpoint=nowhere)).authorize()
    assert str(told.value) == str(refused.value)


async def test_what_fails_for_the_moment_is_tried_again(emulator: Emulator, shop: Shop) -> None:
    emulator.fault(call="b2_authorize_account", kind="status", status=503, code="service_unavailable")
    since = emulator.last_seq()
    store = shop.retrying(early=early(emulator))
    assert (await store.authorize()).account_id == emulator.account_id
    assert [entry["status"] for entry in emulator.log(since)] == [503, 200]


async def test_who_waits_for_a_server_that_says_nothing_waits_as_long_as_for_an_own_call(
    emulator: Emulator, shop: Shop
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        nowhere = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = shop.retrying(io_timeout=1.0, endpoint=nowhere, early=early(emulator, endpoint=nowhere))
        with trio.fail_after(60), pytest.raises(B2Unavailable):
            await store.authorize()


def test_asking_early_needs_no_trio() -> None:
    script = "import sys, b2mount.store.early; sys.exit('trio' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
