"""The control socket of a running mount: status, flush, unmount, refresh, reload, one JSON object a line.

Only the user who mounts may connect (the socket is 0600 in a directory of 0700). Answers never hold secrets.
"""

import contextlib
import json
import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.moments import format_moment
from b2mount.journal.uploader import Failure
from b2mount.mount_busy import programs_using
from b2mount.mount_key import KeyKeeper
from b2mount.mount_world import Mounted

if TYPE_CHECKING:
    from b2mount.fs.restore import Step

log = logging.getLogger("b2mount.control")

LONGEST_REQUEST = 1 << 20  # bytes
PATIENCE_SECONDS = 60.0  # for a request to arrive: who connects and says nothing takes a descriptor
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
PROGRESS_EVERY = 0.2  # seconds between two lines of progress
RENAMES_TOLD = 20  # of directories, to who waits

Answer = dict[str, Any]


class Unmount(Protocol):
    """End the mount."""

    def __call__(self, *, at_once: bool) -> None: ...


class ControlServer:
    """Answers on the control socket."""

    def __init__(
        self,
        mounted: Mounted,
        path: Path,
        status: Callable[[], Answer],
        unmount: Unmount,
        key: KeyKeeper,
    ) -> None:
        self._mounted = mounted
        self._key = key
        self._path = path
        self._status = status
        self._unmount = unmount

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; the socket file is removed then."""
        self._path.unlink(missing_ok=True)
        server = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        with _short(self._path) as address:
            await server.bind(address)
        self._path.chmod(0o600)
        server.listen(16)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        connection, _ = await server.accept()
                    except OSError as exc:  # out of descriptors, or a connection that was gone at once
                        log.info("a control request was not accepted: %s", exc.strerror)
                        await trio.sleep(0.1)
                        continue
                    nursery.start_soon(self._talk, trio.SocketStream(connection))
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def _talk(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                request = b""
                with trio.move_on_after(PATIENCE_SECONDS):
                    request = await _read_line(stream)
                if request:
                    await self._answer(json.loads(request), stream)
            except Exception as exc:
                if _has_gone(exc):
                    return  # whoever asked is not there any more
                if not isinstance(exc, (B2MountError, ValueError)):
                    log.exception("a control request failed")
                error, _, hint = (str(exc) or type(exc).__name__).partition("\n")
                with contextlib.suppress(*GONE):
                    await _send(stream, {"done": True, "error": error, "hint": hint.replace("\n", "; ")})

    async def _answer(self, request: Answer, stream: trio.SocketStream) -> None:
        handlers: dict[str, Callable[[Answer, trio.SocketStream], Awaitable[None]]] = {
            "status": self._answer_status,
            "flush": self._answer_flush,
            "unmount": self._answer_unmount,
            "refresh": self._answer_refresh,
            "restore": self._answer_restore,
            "reload": self._answer_reload,
        }
        handler = handlers.get(str(request.get("op")))
        if handler is None:
            known = ", ".join(handlers)
            await _send(stream, {"done": True, "error": "this mount knows no such request", "hint": known})
            return
        await handler(request, stream)

    async def _answer_status(self, request: Answer, stream: trio.SocketStream) -> None:
        await _send(stream, {"done": True, "status": self._status()})

    async def _answer_refresh(self, request: Answer, stream: trio.SocketStream) -> None:
        await self._mounted.fs.refresh(str(request.get("path", "")))
        await _send(stream, {"done": True})

    async def _answer_restore(self, request: Answer, stream: trio.SocketStream) -> None:
        """Bring back what was, telling each batch of steps that is begun."""
        from b2mount.fs.restore import Wish  # late, as all that only a verb needs

        wish = Wish(
            str(request.get("path", "")), request.get("at"), request.get("to"), bool(request.get("delete"))
        )
        dry, begun = bool(request.get("dry")), [0, 0]
        send, receive = trio.open_memory_channel[Answer](math.inf)

        def tell(steps: Sequence["Step"]) -> None:
            begun[0] += len(steps)
            begun[1] += sum(step.version.size for step in steps if step.version is not None)
            shown = [_step(step) for step in steps] if dry else []
            send.send_nowait({"files": begun[0], "bytes": begun[1], "steps": shown})

        refused: B2MountError | None = None
        outcome: tuple[int, int, list[Failure]] | None = None
        async with trio.open_nursery() as nursery:

            async def forward() -> None:
                try:
                    async for answer in receive:
                        await _send(stream, answer)
                except GONE:
                    nursery.cancel_scope.cancel()  # whoever asked has gone: what is begun goes on alone

            nursery.start_soon(forward)
            with send:
                try:
                    outcome = await self._mounted.fs.restore.run(wish, dry=dry, tell=tell)
                except B2MountError as exc:  # not wrapped into a group
                    refused = exc
        if refused is not None:
            raise refused
        if outcome is not None:
            restored, removed, failures = outcome
            told = [{"name": failure.name, "error": str(failure.error)} for failure in failures]
            await _send(stream, {"done": True, "restored": restored, "removed": removed, "failed": told})

    async def _answer_reload(self, request: Answer, stream: trio.SocketStream) -> None:
        await _send(stream, {"done": True, **await self._key.reload()})

    async def _answer_flush(self, request: Answer, stream: trio.SocketStream) -> None:
        failures = await self._flush(request, stream)
        await _send(stream, _flushed(failures))

    async def _answer_unmount(self, request: Answer, stream: trio.SocketStream) -> None:
        force = bool(request.get("force"))
        if not force and await self._tell_if_busy(stream):
            return
        failures = await self._flush(request, stream)
        if failures and not force:
            await _send(stream, _flushed(failures))
            return
        if not force and await self._tell_if_busy(stream):
            return
        await _send(stream, {**_flushed(failures), "ok": True})
        self._unmount(at_once=force)

    async def _tell_if_busy(self, stream: trio.SocketStream) -> bool:
        """Refuse to unmount under running programs, as umount(8) does."""
        mountpoint = self._mounted.options.mountpoint
        users = await trio.to_thread.run_sync(programs_using, mountpoint)
        if not users:
            return False
        shown = ", ".join(f"{name} (process {pid})" for pid, name in users[:5])
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        await _send(
            stream,
            {
                "done": True,
                "error": f"{mountpoint} is busy: {shown}{more} use it",
                "hint": "end them, or cut them off: b2mount unmount --force",
            },
        )
        return True

    async def _flush(self, request: Answer, stream: trio.SocketStream) -> list[Failure]:
        """Send everything, telling how much is left; at most for the time that was asked for."""
        left = [0, 0]

        def progress(files: int, size: int) -> None:
            left[:] = [files, size]

        timeout = request.get("timeout")
        failures: list[Failure] = []
        deadline = trio.current_time() + float(timeout) if timeout is not None else float("inf")
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                while True:
                    renames = self._mounted.journal.moves.facts()[:RENAMES_TOLD]
                    told = {"pending_files": left[0], "pending_bytes": left[1], "renames": renames}
                    await _send(stream, told)
                    await trio.sleep(PROGRESS_EVERY)

            with trio.CancelScope(deadline=deadline) as scope:
                await self._mounted.fs.commit_all()
                progress(len(self._mounted.journal.queue), self._mounted.journal.pending_bytes())
                nursery.start_soon(tell)
                failures = await self._mounted.journal.uploader.wait_all(progress=progress)
            nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            waiting = self._mounted.journal.queue.ops.values()
            return [
                Failure(op.name, op.error or B2MountError("not sent in the time given")) for op in waiting
            ]
        return failures


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name for *path* that an address has room for (107 bytes, unix(7)): by its opened directory."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


async def _read_line(stream: trio.SocketStream) -> bytes:
    """Read a request, without its line feed; nothing where none comes or it is too long."""
    buffer = b""
    while b"\n" not in buffer:
        chunk = await stream.receive_some(65536)
        if not chunk or len(buffer) > LONGEST_REQUEST:
            return b""
        buffer += chunk
    return buffer.split(b"\n", 1)[0]


def _has_gone(error: BaseException) -> bool:
    """Say whether an error, in groups of nurseries or not, tells no more than that a client has gone."""
    if isinstance(error, BaseExceptionGroup):
        return all(_has_gone(inner) for inner in error.exceptions)
    return isinstance(error, GONE)


def _step(step: "Step") -> Answer:
    uploaded = None if step.version is None else format_moment(step.version.uploaded_ms)
    return {"name": step.name, "uploaded": uploaded}


def _flushed(failures: list[Failure]) -> Answer:
    return {
        "done": True,
        "ok": not failures,
        "failed": [{"name": failure.name, "error": str(failure.error)} for failure in failures],
    }


async def _send(stream: trio.SocketStream, answer: Answer) -> None:
    await stream.send_all(json.dumps(answer).encode() + b"\n")
