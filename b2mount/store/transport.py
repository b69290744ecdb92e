"""One request of b2sdk's raw API, carried by our wire, counted, and its failure told in facts.

Stands where b2sdk's raw calls expect their HTTP object; b2sdk's own one retries by itself in the calling
thread, reads ~/.netrc, and forgets the status and code of many answers. Knows no b2sdk class.
"""

import email.utils
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Any

import orjson

from b2mount.core.replies import CallFailed, Failure, Fault, Reply
from b2mount.store.counting import Counters
from b2mount.store.wire import Answer, Limits, Readable, Request, Wire, WireFault

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
SHOWN_OF_STRANGE_BODY = 80  # bytes
SHA1_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Headers:
    """An answer as b2sdk looks at it after a HEAD request."""

    headers: Mapping[str, str]


class Transport:
    """Sends one call's request once. Raises CallFailed; blocks the thread it is used in."""

    def __init__(
        self,
        wire: Wire,
        counters: Counters,
        call: str,
        limits: Limits,
        *,
        progress: Callable[[int], None],
        check: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._counters = counters
        self._call = call
        self._limits = limits
        self._progress = progress
        self._check = check
        self._date: str | None = None  # the answer's header of that name

    @property
    def server_seconds(self) -> float | None:
        """When the answer was made by the server's clock, in seconds since the epoch, if it told."""
        return _seconds(self._date)

    # --- what b2sdk's raw calls use ---------------------------------------------------------------------

    def post_json_return_json(
        self, url: str, headers: Mapping[str, str], params: Mapping[str, Any], try_count: int = 1
    ) -> dict[str, Any]:
        """POST *params* as JSON; return the answer's JSON object."""
        body = json.dumps(params).encode()
        return self._json(self._exchange(self._request("POST", url, {**headers, **JSON_HEADERS}, body)))

    def post_content_return_json(
        self, url: str, headers: Mapping[str, str], data: bytes | Readable, try_count: int = 1
    ) -> dict[str, Any]:
        """POST the bytes of a file or part; return the answer's JSON object."""
        plain = {key: value for key, value in headers.items() if key.lower() != "content-length"}
        request = self._request("POST", url, plain, data, progress=self._progress)
        return self._json(self._exchange(request, up=len(data) if isinstance(data, bytes) else data.size))

    def head_content(self, url: str, headers: Mapping[str, str], try_count: int = 1) -> Headers:
        """Ask for the headers alone."""
        return Headers(dict(self._exchange(self._request("HEAD", url, headers, None)).headers))

    # --- ours -------------------------------------------------------------------------------------------

    def get_into(
        self,
        url: str,
        headers: Mapping[str, str],
        buffer: memoryview,
        here: int = 0,
        *,
        vet: Callable[[int, HTTPMessage], bool],
        progress: Callable[[int], None],
    ) -> Answer:
        """Fill *buffer* from *here* on with the body; one of another length is left unread, and told.

        *vet* sees status and headers before the first byte of it, and says whether the beginning of a longer
        body is what is wanted. A whole file is checked against the SHA-1 that came with it.
        Raises CallFailed, and what *vet* raises.
        """
        answer = self._exchange(
            Request("GET", url, headers, into=buffer[here:], progress=progress, check=self._check, vet=vet)
        )
        if _is_damaged(answer, buffer, here):
            raise self.failed(Fault.CORRUPT, "the bytes do not match their SHA-1")
        return answer

    def failed(self, answer: Reply | Fault, detail: str = "", *, sent: bool = True) -> CallFailed:
        """Return the exception that tells of this call's failure."""
        return CallFailed(Failure(self._call, answer, sent, detail))

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Readable | None,
        progress: Callable[[int], None] | None = None,
    ) -> Request:
        if progress is None:
            return Request(method, url, headers, body, check=self._check)
        return Request(method, url, headers, body, progress=progress, check=self._check)

    def _exchange(self, request: Request, up: int = 0) -> Answer:
        started = time.monotonic()
        try:
            answer = self._wire.exchange(request, self._limits)
        except WireFault as fault:
            self._counters.unanswered(self._call)
            raise self.failed(fault.fault, fault.detail, sent=fault.sent) from None
        seconds = time.monotonic() - started
        refusal = None if 200 <= answer.status < 300 else _reply(answer, request)
        code = refusal.code if refusal is not None else None
        self._counters.answered(self._call, answer.status, seconds, up=up, down=answer.filled, code=code)
        self._date = answer.headers.get("Date")
        if refusal is not None:
            raise self.failed(refusal, sent=answer.sent) from None
        return answer

    def _json(self, answer: Answer) -> dict[str, Any]:
        value = _json_object(answer.body)
        if value is None:
            raise self.failed(Fault.ODD_REPLY, f"{answer.status}, {_shown(answer.body)}")
        return value


def _reply(answer: Answer, request: Request) -> Reply:
    retry_after = _retry_after(answer.headers.get("Retry-After"))
    if request.method == "HEAD":  # comes without a body, hence without a code
        return Reply(answer.status, retry_after=retry_after)
    value = _json_object(answer.body)
    if value is None:
        hint = " (this is B2's S3 interface; b2mount needs the native one)" if "://s3." in request.url else ""
        return Reply(answer.status, "non_json_response", f"{_shown(answer.body)}{hint}", retry_after)
    code, message = value.get("code"), value.get("message")
    return Reply(answer.status, str(code) if code else None, str(message or ""), retry_after)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)  # a page of 10,000 rows takes a fifth of the time that json takes
    except ValueError:
        try:
            value = json.loads(body)  # takes lone surrogates, too, which may stand in names
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _shown(body: bytes) -> str:
    return f"not JSON: {body[:SHOWN_OF_STRANGE_BODY]!r}"


def _seconds(date: str | None) -> float | None:
    """Read an HTTP date; None where there is none or it is odd."""
    if date is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _is_damaged(answer: Answer, buffer: memoryview, here: int) -> bool:
    """Say whether a whole file, whose bytes from *here* on came with an answer, differs from its SHA-1.

    Backblaze docs, "b2_download_file_by_id": the header is that of the whole file, also on a range.
    """
    size = len(buffer)
    told = answer.headers.get("Content-Range")
    if told is None:
        is_whole = answer.headers.get("Content-Length") == str(size)
    else:
        is_whole = told == f"bytes {here}-{size - 1}/{size}"
    sha1 = answer.headers.get("X-Bz-Content-Sha1", "")
    if not is_whole or answer.filled != size - here or len(sha1) != SHA1_DIGITS:  # "none": a large file
        return False
    return hashlib.sha1(buffer, usedforsecurity=False).hexdigest() != sha1.lower()


def _retry_after(text: str | None) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    moment = _seconds(text)
    return None if moment is None else max(moment - time.time(), 0.0)
