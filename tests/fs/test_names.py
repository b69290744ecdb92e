"""Names that B2's API could tell of, and that nothing here can write down: they stand in nobody's way."""

from pathlib import Path

import pytest

from b2mount.core.errors import NotPermitted
from tests.fs.worlds import ROOT, little
from tests.journal.lives import memory, shown


async def test_a_name_with_a_lone_surrogate_is_read_and_removed_and_spoils_nothing(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "lone \ud800", b"odd")
    store.account.add(bucket_id, "\ud800/file", b"inside")
    async with little(tmp_path, store) as mount:
        odd = "lone %b2-uD800"
        assert await mount.read(odd) == b"odd"
        with pytest.raises(NotPermitted):
            await mount.rename(odd, "plain")
        with pytest.raises(NotPermitted):
            await mount.rename("%b2-uD800", "directory")
        await mount.create("other", b"other")
        await mount.fs.unlink(ROOT, odd.encode())
        await mount.fs.unlink(await mount.ino("%b2-uD800"), b"file")
        assert await mount.flush() == []
    assert shown(store.account, bucket_id) == {"other": b"other"}
