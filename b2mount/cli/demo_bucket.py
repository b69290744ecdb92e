"""What the demo shows: two tenants in one bucket, and a key that opens the first.

Talks to the server in B2's native API, as any program would, over plain HTTP on loopback.
"""

import base64
import hashlib
import json
import secrets
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET_PREFIX = "b2mount-demo-"
TENANT = "tenant-a/"
OTHER_TENANT = "tenant-b/"
CAPABILITIES = ("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles")
PICTURE_SIDE = 1024  # pixels; three bytes each
KEY_NAME = "b2mount-demo"


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the demo."""

    name: str
    content: bytes
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Stocked:
    """A stocked bucket and the key for its first tenant."""

    bucket: str
    key_id: str
    key: str


def make_samples() -> Iterator[Sample]:
    """Yield the files, those of the other tenant last."""
    yield Sample(
        f"{TENANT}hello.txt",
        b"These files lie in a Backblaze B2 bucket (an emulated one), and you read them as plain files.\n",
    )
    for month in ("january", "february", "march"):
        text = f"# Notes of {month}\n\nNothing happened that a file system would notice.\n"
        yield Sample(f"{TENANT}notes/2026/{month}.md", text.encode(), "text/markdown")
    yield Sample(f"{TENANT}notes/todo.txt", b"- write to this file\n- look at it with the b2 tool\n")
    yield Sample(f"{TENANT}pictures/2026/sunrise.ppm", _make_picture(), "image/x-portable-pixmap")
    yield Sample(f"{TENANT}Grüße/naïve café ☕.txt", b"Names are UTF-8, as in B2.\n")
    yield Sample(f"{TENANT}empty/.bzEmpty", b"", "application/octet-stream")
    yield Sample(f"{OTHER_TENANT}secret.txt", b"The key of tenant-a does not open this.\n")


def _make_picture() -> bytes:
    """Paint a sunrise of about 3 MB that picture viewers open (netpbm's PPM)."""
    side = PICTURE_SIDE
    bright_middle = bytes((side - abs(2 * x - side)) * 255 // side for x in range(side))
    picture = bytearray(b"P6 %d %d 255\n" % (side, side))
    row = bytearray(3 * side)
    for y in range(side):
        glow = 255 * y // side
        row[0::3] = bytes([glow]) * side
        row[1::3] = bright_middle.translate(bytes(glow * level >> 8 for level in range(256)))
        row[2::3] = bytes([255 - glow]) * side
        picture += row
    return bytes(picture)


def stock_bucket(url: str, master_key_file: Path) -> Stocked:
    """Make a bucket with the samples, and a key for the first tenant; return both."""
    account = _Account(url, json.loads(master_key_file.read_text()))
    bucket = BUCKET_PREFIX + secrets.token_hex(4)
    bucket_id = account.call(
        "b2_create_bucket", accountId=account.account_id, bucketName=bucket, bucketType="allPrivate"
    )["bucketId"]
    for sample in make_samples():
        account.upload(bucket_id, sample)
    made = account.call(
        "b2_create_key",
        accountId=account.account_id,
        keyName=KEY_NAME,
        capabilities=list(CAPABILITIES),
        bucketIds=[bucket_id],
        namePrefix=TENANT,
    )
    return Stocked(bucket, made["applicationKeyId"], made["applicationKey"])


class _Account:
    """The whole account, by its master key."""

    def __init__(self, url: str, master_key: Mapping[str, str]) -> None:
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pair = f"{master_key['applicationKeyId']}:{master_key['applicationKey']}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        reply = self._send(f"{url}/b2api/v4/b2_authorize_account", b"{}", headers)
        self.account_id: str = reply["accountId"]
        self._api_url: str = reply["apiInfo"]["storageApi"]["apiUrl"]
        self._headers = {"Authorization": reply["authorizationToken"]}

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        body = json.dumps(fields).encode()
        return self._send(f"{self._api_url}/b2api/v4/{name}", body, self._headers)

    def upload(self, bucket_id: str, sample: Sample) -> None:
        target = self.call("b2_get_upload_url", bucketId=bucket_id)
        headers = {
            "Authorization": target["authorizationToken"],
            "X-Bz-File-Name": urllib.parse.quote(sample.name),
            "Content-Type": sample.content_type,
            "X-Bz-Content-Sha1": hashlib.sha1(sample.content, usedforsecurity=False).hexdigest(),
        }
        self._send(target["uploadUrl"], sample.content, headers)

    def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(url, body, dict(headers))
        with self._opener.open(request, timeout=60) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer
