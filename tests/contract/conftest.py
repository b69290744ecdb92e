"""The world of each test: the same test runs in all of them."""

import os
import uuid
from collections.abc import AsyncIterator

import pytest

from tests.contract.worlds import EmulatorWorld, MemoryWorld, RealWorld, World, real_b2_is_given

_REAL = pytest.param("real", marks=pytest.mark.real_b2)


@pytest.fixture(params=["memory", "retrying", "emulator", _REAL])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A bucket of one's own, authorized."""
    if request.param in ("memory", "retrying"):
        memory = MemoryWorld(retrying=request.param == "retrying")
        await memory.store.authorize()
        yield memory
        await memory.aclose()
    elif request.param == "emulator":
        emulator, bucket = request.getfixturevalue("emulator"), request.getfixturevalue("bucket")
        other = f"test-{uuid.uuid4().hex[:16]}"
        emulator.create_bucket(other)
        served = EmulatorWorld(emulator, bucket, other)
        await served.store.authorize()
        yield served
        await served.aclose()
        emulator.wipe(other)
    else:
        if not real_b2_is_given():
            pytest.skip("needs B2_TEST_KEY_ID, B2_TEST_KEY and B2_TEST_BUCKET")
        real = RealWorld(os.environ, f"contract-{uuid.uuid4().hex}/")
        await real.start()
        yield real
        await real.aclose()


@pytest.fixture(params=["memory", "retrying", "emulator"])
async def locking_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A bucket with Object Lock; not on real B2, where a held version could not be removed afterwards."""
    if request.param in ("memory", "retrying"):
        memory = MemoryWorld(lock=True, retrying=request.param == "retrying")
        await memory.store.authorize()
        yield memory
        await memory.aclose()
        return
    emulator = request.getfixturevalue("emulator")
    name = f"test-{uuid.uuid4().hex[:16]}"
    emulator.create_bucket(name, fileLockEnabled=True)
    served = EmulatorWorld(emulator, name, name, lock=True)
    await served.store.authorize()
    yield served
    await served.aclose()
    emulator.wipe(name)
