"""The secret shows nowhere, nothing is left on the disk, and no other program's secrets are read."""

import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from b2mount.core.credentials import make_credentials
from b2mount.core.errors import B2MountError
from b2mount.store.b2 import B2Store
from b2mount.store.connect import open_store
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory."""
    for name in ("B2_ACCOUNT_INFO", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_under(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


async def use(store: B2Store, bucket_id: str, bucket: str) -> None:
    row = await store.upload(bucket_id, "f", Bytes(b"data" * 500_000), content_type="text/plain", info={})
    await store.list_names(bucket_id, "")
    await store.head(bucket, "f")
    await store.read_range(row.file_id, 0, 4)
    await store.hide(bucket_id, "f")


async def test_nothing_is_written_to_the_home_directory(
    shop: Shop, emulator: Emulator, bucket: str, home: Path
) -> None:
    await use(shop.plain(), emulator.bucket_id(bucket), bucket)
    assert files_under(home) == []


async def test_a_netrc_entry_for_the_host_is_not_used(
    shop: Shop, emulator: Emulator, bucket: str, home: Path
) -> None:
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login x password y\n")
    netrc.chmod(0o600)
    await use(shop.plain(), emulator.bucket_id(bucket), bucket)


async def test_neither_the_key_nor_a_token_is_told_by_errors_logs_or_texts(
    shop: Shop,
    emulator: Emulator,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    key_id, key = emulator.create_key(["listFiles", "writeFiles"], [bucket])
    bucket_id = emulator.bucket_id(bucket)
    store = shop.plain((key_id, key))
    told: list[str] = [repr(make_credentials(key_id, key, "a test"))]
    await store.authorize()
    await store.upload(bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={})
    access = await store._caller.current()
    urls = store._caller.urls
    url = urls.take(bucket_id)
    assert url is not None
    urls.put_back(bucket_id, url)
    told += [repr(access), repr(url), repr(store), str(store), repr(store.counters.totals())]
    leaks: list[dict[str, Any]] = [
        {"kind": "status", "status": 400, "code": "bad_request", "message": f"auth token {url.token} x"},
        {"kind": "status", "status": 400, "code": "auth_token_limit", "message": f"auth token {url.token}"},
        {"kind": "status", "status": 500, "code": "internal_error", "message": f"token {access.token}"},
        {"kind": "drop_before"},
        {"kind": "drop_after"},
    ]
    for fault in leaks:
        emulator.fault(call="*", **fault)
        for attempt in (
            lambda: store.upload(bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={}),
            lambda: store.list_names(bucket_id, ""),
            lambda: store.head(bucket, "f"),
            lambda: shop.plain((key_id, "K001" + "y" * 27)).authorize(),
        ):
            try:
                await attempt()
            except B2MountError as error:
                told += traceback.format_exception(error)
                told += [repr(error), str(error), repr(error.__cause__), repr(error.__context__)]
    told += [record.getMessage() for record in caplog.records]
    told += [str(record.exc_info) for record in caplog.records]
    text = "\n".join(told)
    for secret in (key, access.token, url.token):
        assert secret not in text
    assert "[token]" in text, "the test lets tokens into messages"


def test_importing_the_way_to_the_store_does_not_import_b2sdk() -> None:
    script = (
        "import sys, b2mount.store.connect; sys.exit('b2sdk' in sys.modules or 'requests' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


async def test_open_store_gives_a_store_that_works(emulator: Emulator, bucket: str) -> None:
    credentials = make_credentials(emulator.master_key_id, emulator.master_key, "a test")
    store = open_store(credentials, endpoint=emulator.url + "/", io_timeout=60)
    grant = await store.authorize()
    assert grant.account_id == emulator.account_id
    await store.list_names(emulator.bucket_id(bucket), "")
    assert store.counters.totals().classes == {"A": 0, "B": 0, "C": 2}
    await store.aclose()
