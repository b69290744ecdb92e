"""The authorization: renewed once for all who wait, ahead of its end, and refused with the true reason."""

import time
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from b2mount.core.credentials import make_credentials
from b2mount.core.errors import AccessDenied, B2MountError, B2Unavailable, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.grant import Capability, Grant
from b2mount.store.authorization import RENEW_SECONDS, Access, AccessKeeper
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator

READ_WRITE = ["listFiles", "readFiles", "writeFiles"]
Count = Callable[[str], int]


async def all_at_once(count: int, act: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(act)


async def test_forty_callers_with_an_expired_token_make_one_authorize_call(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.plain()
    row = emulator.upload(bucket, "f", b"data")
    await store.authorize()
    emulator.expire_tokens("account")

    async def read() -> None:
        assert await store.read_range(row["fileId"], 0, 4) == b"data"

    await all_at_once(40, read)
    assert calls_since("b2_authorize_account") == 2


async def test_forty_callers_without_a_token_make_one_authorize_call(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.plain()
    bucket_id = emulator.bucket_id(bucket)

    async def list_names() -> None:
        await store.list_names(bucket_id, "")

    await all_at_once(40, list_names)
    assert calls_since("b2_authorize_account") == 1


async def test_forty_callers_with_a_deleted_key_make_one_authorize_call_and_all_hear_why(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    key = emulator.create_key(READ_WRITE, [bucket])
    store = shop.plain(key)
    await store.authorize()
    emulator.delete_key(key[0])
    emulator.expire_tokens("account")
    bucket_id = emulator.bucket_id(bucket)
    heard: list[B2MountError] = []

    async def list_names() -> None:
        try:
            await store.list_names(bucket_id, "")
        except B2MountError as error:
            heard.append(error)

    await all_at_once(40, list_names)
    assert [type(error) for error in heard] == [KeyRevoked] * 40
    assert calls_since("b2_authorize_account") == 2
    with pytest.raises(KeyRevoked):
        await store.list_names(bucket_id, "")
    assert calls_since("b2_authorize_account") == 2, "a refusal is remembered for a while"
    with pytest.raises(KeyRevoked):
        await store.authorize()
    assert calls_since("b2_authorize_account") == 3, "who asks for it is not put off"


async def test_a_deleted_key_is_found_where_b2_says_no_more_than_unauthorized(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    key = emulator.create_key(READ_WRITE, [bucket])
    store = shop.plain(key)
    await store.authorize()
    emulator.fault(kind="status", call="b2_list_file_names", status=401, code="unauthorized", times=-1)
    bucket_id = emulator.bucket_id(bucket)
    for _ in range(3):
        with pytest.raises(AccessDenied):  # the key lives
            await store.list_names(bucket_id, "")
    assert calls_since("b2_authorize_account") == 2, "asked once, not at each refusal"
    emulator.delete_key(key[0])
    emulator.expire_tokens("account")
    with pytest.raises(B2MountError):
        await store.hide(bucket_id, "f")  # tells that the key is dead
    for _ in range(3):
        with pytest.raises(KeyRevoked):
            await store.list_names(bucket_id, "")


async def test_a_key_that_is_deleted_is_told_at_the_first_unauthorized(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    key = emulator.create_key(READ_WRITE, [bucket])
    store = shop.plain(key)
    await store.authorize()
    emulator.fault(kind="status", call="b2_list_file_names", status=401, code="unauthorized", times=-1)
    emulator.delete_key(key[0])
    for _ in range(3):
        with pytest.raises(KeyRevoked):
            await store.list_names(emulator.bucket_id(bucket), "")


async def test_a_key_whose_time_is_over_is_told_as_such(shop: Shop, emulator: Emulator, bucket: str) -> None:
    key = emulator.create_key(READ_WRITE, [bucket], seconds=10)
    store = shop.plain(key)
    grant = await store.authorize()
    assert grant.expires_ms is not None
    await trio.sleep(max(grant.expires_ms / 1000 - time.time(), 0) + 0.05)
    with pytest.raises(KeyExpired):
        await store.list_names(emulator.bucket_id(bucket), "")


@pytest.mark.parametrize("is_secret_wrong", [True, False])
async def test_a_wrong_key_is_rejected(shop: Shop, emulator: Emulator, is_secret_wrong: bool) -> None:
    key_id, key = emulator.master_key_id, emulator.master_key
    wrong = (key_id, "K001" + "x" * 27) if is_secret_wrong else ("0010123456789ab0000000001", key)
    with pytest.raises(KeyRejected):
        await shop.plain(wrong).authorize()


async def test_every_call_survives_a_token_that_expires_before_it(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store = shop.plain()
    bucket_id = emulator.bucket_id(bucket)
    await store.authorize()
    for number in range(3):
        emulator.expire_tokens("account")
        await store.upload(bucket_id, f"f{number}", Bytes(b"x"), content_type="text/plain", info={})
        emulator.expire_tokens("account")
        await store.head(bucket, f"f{number}")
        emulator.expire_tokens("account")
        assert len((await store.list_names(bucket_id, "")).rows) == number + 1


@pytest.mark.parametrize("kind", ["upload", "all"])
async def test_an_expired_upload_token_is_replaced(
    shop: Shop, emulator: Emulator, bucket: str, kind: str, calls_since: Count
) -> None:
    store = shop.retrying()
    bucket_id = emulator.bucket_id(bucket)
    await store.upload(bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={})
    emulator.expire_tokens(kind)
    await store.upload(bucket_id, "f", Bytes(b"22"), content_type="text/plain", info={})
    assert [row["contentLength"] for row in emulator.list_versions(bucket, "f")] == [2, 1]
    assert calls_since("b2_get_upload_url") <= 3


async def test_a_head_that_the_key_may_not_make_asks_for_no_new_token(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.plain(emulator.create_key(["listFiles", "writeFiles"], [bucket]))
    await store.authorize()
    for _ in range(3):
        with pytest.raises(B2MountError):
            await store.head(bucket, "f")
    assert calls_since("b2_authorize_account") == 1


# --- the keeper on its own, with a clock that jumps and no wire --------------------------------------------


def access(got: float | None = None) -> Access:
    grant = Grant("0123456789ab", Capability.LIST_FILES, None, "", None)
    return Access(grant, "token", "http://api", "http://download", time.monotonic() if got is None else got)


class Authority:
    """Stands for B2: answers after a while, in turn with what it was given."""

    def __init__(self, *answers: Access | B2MountError, seconds: float = 1.0) -> None:
        self.calls = 0
        self._answers = list(answers)
        self._seconds = seconds

    async def authorize(self) -> Access:
        self.calls += 1
        answer = self._answers.pop(0)
        await trio.sleep(self._seconds)
        if isinstance(answer, B2MountError):
            raise answer
        return answer


def keeper_of(authority: Authority) -> AccessKeeper:
    return AccessKeeper(authority.authorize, now_ms=lambda: int(time.time() * 1000))


async def test_an_old_token_is_renewed_before_b2_refuses_it(autojump_clock: trio.testing.MockClock) -> None:
    fresh = access()
    authority = Authority(access(time.monotonic() - RENEW_SECONDS - 1), fresh)
    keeper = keeper_of(authority)
    await keeper.current()
    assert await keeper.current() is fresh
    assert await keeper.current() is fresh
    assert authority.calls == 2


async def test_an_old_token_serves_on_where_it_cannot_be_renewed_yet(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = access(time.monotonic() - RENEW_SECONDS - 1)
    authority = Authority(old, B2Unavailable("no answer"))
    keeper = keeper_of(authority)
    for _ in range(5):
        assert await keeper.current() is old
    assert authority.calls == 2
    assert len(caplog.records) == 1


async def test_whoever_waits_takes_over_from_a_leader_that_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first, second = access(), access()
    authority = Authority(first, second)
    keeper = keeper_of(authority)
    results: list[Access] = []

    async def ask() -> None:
        results.append(await keeper.current())

    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await ask()

        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
    assert results == [second, second]
    assert authority.calls == 2


async def test_a_temporary_failure_is_shared_but_not_remembered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    good = access()
    authority = Authority(B2Unavailable("no answer"), good)
    keeper = keeper_of(authority)
    failures: list[str] = []

    async def ask() -> None:
        try:
            await keeper.current()
        except B2Unavailable as error:
            failures.append(str(error))

    await all_at_once(5, ask)
    assert failures == ["no answer"] * 5
    assert await keeper.current() is good


async def test_another_key_counts_at_once_even_while_the_old_one_is_being_renewed() -> None:
    answered = trio.Event()
    old, new = access(), access()

    async def authorize() -> Access:
        await answered.wait()
        return old

    keeper = AccessKeeper(authorize, now_ms=lambda: 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.renew, None)
        await trio.testing.wait_all_tasks_blocked()
        keeper.adopt(new)
        assert await keeper.current() is new
        answered.set()
    assert keeper.latest is new


async def test_another_key_ends_the_refusal_of_the_old_one() -> None:
    async def refuse() -> Access:
        raise KeyRejected("no")

    keeper = AccessKeeper(refuse, now_ms=lambda: 0)
    with pytest.raises(KeyRejected):
        await keeper.current()
    assert isinstance(keeper.refusal, KeyRejected)
    new = access()
    keeper.adopt(new)
    assert keeper.refusal is None
    assert await keeper.current() is new


async def test_a_key_that_the_check_does_not_like_is_not_taken(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store = shop.plain(emulator.create_key(READ_WRITE, [bucket]))
    before = await store.authorize()

    def dislike(grant: Grant) -> None:
        raise KeyRejected("not this one")

    other = make_credentials(*emulator.create_key(["listFiles"], [bucket]), "a test")
    with pytest.raises(KeyRejected):
        await store.caller.replace_key(other, dislike)
    assert store.grant == before
    await store.caller.replace_key(other, lambda grant: None)
    assert store.grant.capabilities == Capability.LIST_FILES
