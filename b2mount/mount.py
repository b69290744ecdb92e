"""One mount's life: authorize, mount, serve, flush, unmount; signals, and what is said of what is left.

The order at the end is what keeps data: what is written is committed to the journal, everything queued is
sent, the mount point is let go, and what came in between is sent too. What cannot be sent stays in the
journal, is named, and is sent at the next mount of the same scope.
"""

import errno
import functools
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from b2mount import fuse_background, fuse_poll, fuse_readahead
from b2mount.core.credentials import Credentials
from b2mount.core.errors import B2MountError
from b2mount.core.listen import Listen
from b2mount.core.moments import format_moment
from b2mount.core.options import MountOptions
from b2mount.core.scope import Scope, parse_source
from b2mount.core.words import show_count
from b2mount.fuse import Door, mount_flags
from b2mount.journal.journal import Journal
from b2mount.journal.label import write_label
from b2mount.journal.uploader import Failure
from b2mount.mount_checks import check_options
from b2mount.mount_control import ControlServer
from b2mount.mount_key import FindCredentials, KeyKeeper
from b2mount.mount_metrics_server import MetricsServer
from b2mount.mount_notify import (
    READY,
    STOPPING,
    keep_watchdog_quiet,
    notify,
)
from b2mount.mount_past import shown_options, shown_store
from b2mount.mount_recent import RecentErrors
from b2mount.mount_scope import find_scope, warn_if_empty
from b2mount.mount_status import Reporter
from b2mount.mount_stop import Left, watch_the_end
from b2mount.mount_world import (
    Kernel,
    Mounted,
    build,
    find_lock_buckets,
    label_of,
    make_budget,
    open_disk_cache,
    open_state,
)
from b2mount.store.budget import Budget
from b2mount.store.connect import MountStore, open_store
from b2mount.store.early import EarlyAuthorization
from b2mount.store.store import BucketRow

log = logging.getLogger("b2mount.mount")

EXIT_FINE = 0
EXIT_UNSENT = 4  # something written is not in B2; it is in the journal
CACHE_SAVE_SECONDS = 20.0  # what a crash may forget of the block cache's index; a guess
GARBAGE_OBJECTS = 10_000  # made and not gone, between two looks for garbage; little of ours is in cycles
WHY_NOT_MOUNTED = (
    "FUSE's own words are above; in a container that has CAP_SYS_ADMIN it is AppArmor "
    "(--security-opt apparmor=unconfined), SELinux (--security-opt label=disable) or seccomp that forbids it"
)
HANDLERS_AT_ONCE = 1000  # requests of the kernel served at once; those that wait for B2 cost little


def run(
    options: MountOptions,
    credentials: Credentials,
    *,
    log_level: str,
    on_ready: Callable[[], None] | None = None,
    find_credentials: FindCredentials | None = None,
    early: EarlyAuthorization | None = None,
) -> int:
    """Mount and serve until unmounted or told to end; return the exit status. *early* authorizes already.

    *find_credentials* reads the credentials anew, for `b2mount reload`. Raises B2MountError where the mount
    cannot begin: credentials, scope, state directory.
    """
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format=_log_format(options.mountpoint))
    _raise_file_limit()
    try:
        return trio.run(functools.partial(_main, options, credentials, on_ready, find_credentials, early))
    except BaseExceptionGroup as group:  # of the nurseries that a mount lives in
        raise _one_error(group) from None


def _one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that nurseries wrapped, or the group where there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _log_format(mountpoint: Path) -> str:
    """Return the form of a line: with time, process and mount point where it goes to a file."""
    plain = "b2mount: %(levelname)s: %(name)s: %(message)s"
    if sys.stderr.isatty() or "JOURNAL_STREAM" in os.environ:  # the journal notes both by itself
        return plain
    where = str(mountpoint).replace("%", "%%")
    return f"%(asctime)s [%(process)d {where}] {plain}"


def _raise_file_limit() -> None:
    """Allow as many open files as the system does: each open file here has a spool file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_what_was_imported() -> None:
    """Let the collector of garbage pass over what stays anyway, and come less often.

    By its defaults it comes with each 700 new objects, and now and then looks at all that listings hold.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 50)
    gc.enable()


async def _main(
    options: MountOptions,
    credentials: Credentials,
    on_ready: Callable[[], None] | None,
    find_credentials: FindCredentials | None,
    early: EarlyAuthorization | None,
) -> int:
    store = open_store(
        credentials,
        endpoint=options.endpoint,
        ca_file=options.ca_file,
        io_timeout=options.io_timeout,
        uploads=options.uploads,
        downloads=options.downloads,
        early=early,
    )
    try:
        _keep_what_was_imported()
        start = await _find_out(store, options)
        with open_state(start.options, start.account_id, start.scope) as state:
            return await _live(start, state, store, credentials, on_ready, find_credentials)
    finally:
        with trio.move_on_after(10, shield=True):
            await store.aclose()


@dataclass(frozen=True, slots=True)
class _Start:
    """What B2 told before anything is mounted, and the options as they are understood then."""

    options: MountOptions
    account_id: str
    scope: Scope
    lock_buckets: frozenset[str]


async def _find_out(store: MountStore, options: MountOptions) -> _Start:
    """Ask B2 what the key is, and what of the options it can fulfil."""
    grant = await store.authorize()
    source = parse_source(options.source) if options.source else None
    told: list[BucketRow] = []
    scope = await find_scope(
        store, grant, source, bucket_id=options.bucket_id, read_only=options.read_only, told=told
    )
    now_ms, skew_ms = int(time.time() * 1000), int(store.skew_seconds * 1000)
    check_options(options, grant, now_ms=now_ms + max(skew_ms, 0))
    options = shown_options(options, now_ms=now_ms + skew_ms)
    async with trio.open_nursery() as asking:  # side by side: each is a round trip that a start waits for
        asking.start_soon(warn_if_empty, store, grant, scope, options)
        lock_buckets = await find_lock_buckets(store, grant, scope, told)
    return _Start(options, grant.account_id, scope, lock_buckets)


async def _live(
    start: _Start,
    state: Path,
    store: MountStore,
    credentials: Credentials,
    on_ready: Callable[[], None] | None,
    find_credentials: FindCredentials | None,
) -> int:
    """Mount, serve until the end, and say what is left; return the exit status."""
    options, scope = start.options, start.scope
    journal = Journal(state, hard_delete=options.hard_delete, spool_size=options.spool_size)
    write_label(journal.directory, label_of(options, start.account_id, scope))
    disk = open_disk_cache(options, start.account_id, scope)
    try:
        key = KeyKeeper(store, scope, journal, find_credentials, key_id=credentials.shown_id)
        budget = make_budget(options, store.counters)
        budget.load(journal.directory)
        mount = _Mount(options, store, journal, key, budget)
        async with trio.open_nursery() as nursery:
            kernel = Kernel()
            mounted = build(
                shown_store(store, options),
                scope,
                options,
                journal,
                disk,
                nursery,
                kernel,
                mount.control_path,
                start.lock_buckets,
                budget,
            )
            nursery.start_soon(_beside, budget.watch, journal.directory)
            nursery.start_soon(_beside, mounted.world.blocks.save_now_and_then, CACHE_SAVE_SECONDS)
            failures = await mount.serve(mounted, nursery, kernel, on_ready)
            if mount.left_at_once:
                store.break_off()  # threads cannot be cancelled; what they send is unknown either way
            nursery.cancel_scope.cancel()
        budget.save(journal.directory)
        return _report(failures, journal, mount.left_at_once)
    finally:
        journal.close()
        if disk is not None:
            disk.close()


class _Mount:
    """The running mount and the ways it ends."""

    def __init__(
        self, options: MountOptions, store: MountStore, journal: Journal, key: KeyKeeper, budget: Budget
    ) -> None:
        self._options = options
        self._store = store
        self._journal = journal
        self._key = key
        self._budget = budget
        self.control_path = journal.directory.absolute() / "control.sock"
        self.left_at_once = False
        self._initialized = trio.Event()
        self._ending = trio.Event()
        self._signals = 0

    async def serve(
        self,
        mounted: Mounted,
        nursery: trio.Nursery,
        kernel: Kernel,
        on_ready: Callable[[], None] | None,
    ) -> list[Failure]:
        """Mount, serve until the end, flush; return what could not be sent."""
        nursery.start_soon(self._journal.uploader.run)
        nursery.start_soon(_beside, mounted.conflicts.run)
        recent = RecentErrors()
        logging.getLogger("b2mount").addHandler(recent)
        reporter = Reporter(mounted, self._store, self._key, self._budget, recent)
        control = ControlServer(mounted, self.control_path, reporter.facts, self._end, self._key)
        await nursery.start(control.serve)
        if self._options.metrics is not None:
            await nursery.start(_metrics_server(self._options.metrics, reporter).serve)
        await nursery.start(self._watch_signals)  # before it shows: no signal may leave a dead mount behind
        self._init_fuse(mounted, kernel)
        nursery.start_soon(self._key.watch)
        nursery.start_soon(keep_watchdog_quiet)
        try:
            async with trio.open_nursery() as serving:
                serving.start_soon(self._serve_kernel, serving.cancel_scope)
                serving.start_soon(self._raise_limits)
                await trio.lowlevel.checkpoint()
                if on_ready is not None:
                    on_ready()
                notify(READY, f"STATUS=mounted at {self._options.mountpoint}")
                log.info("%s is mounted", self._options.mountpoint)
                if not mounted.world.read_only:
                    nursery.start_soon(_beside, self._journal.database.prepare)
                await self._ending.wait()
                notify(STOPPING)
                nursery.start_soon(
                    watch_the_end, self._what_is_left, functools.partial(self._end, at_once=True)
                )
                await self._flush(mounted)
                serving.cancel_scope.cancel()
        finally:
            kernel.leave()
            pyfuse3.close(unmount=True)
        failures = await self._flush(mounted)
        if not self.left_at_once:
            await mounted.conflicts.look_last()
        if not failures:
            failures = await self._flush(mounted)  # what the look had stored beside
        return failures

    def _what_is_left(self) -> Left:
        ops = self._journal.queue.ops.values()
        sent = self._store.counters.totals().bytes_up + sum(op.sent_bytes for op in ops)
        return Left(len(ops), self._journal.pending_bytes(), sent)

    def _end(self, *, at_once: bool) -> None:
        """End the mount; *at_once*: what could not be sent so far is left to the next mount."""
        if at_once:
            self.left_at_once = True
            self._leave.cancel()
        self._ending.set()

    def _init_fuse(self, mounted: Mounted, kernel: Kernel) -> None:
        options = self._options
        flags = mount_flags(
            source=_shown_source(mounted),
            read_only=mounted.world.read_only,
            allow_other=options.allow_other,
            extra=options.kernel_options,
        )
        mountpoint = os.path.realpath(options.mountpoint)  # fusermount3 refuses a symbolic link
        try:
            pyfuse3.init(Door(mounted.fs, options.listing_ttl, self._initialized.set), mountpoint, flags)
        except RuntimeError as exc:
            raise B2MountError(f"{options.mountpoint} cannot be mounted: {exc}\n{WHY_NOT_MOUNTED}") from exc
        kernel.invalidate_inode = _invalidate_inode
        kernel.invalidate_entry = _invalidate_entry
        kernel.invalidate_entries_now = _invalidate_entries_now

    async def _serve_kernel(self, scope: trio.CancelScope) -> None:
        """Answer the kernel until the mount point is taken away, by us or by umount(8)."""
        await pyfuse3.main(max_tasks=fuse_poll.install() or HANDLERS_AT_ONCE)
        if not self._ending.is_set():
            log.info("%s was unmounted", self._options.mountpoint)
            self._ending.set()

    async def _raise_limits(self) -> None:
        """Set the kernel's limits once it has our answer to its first request, which would reset them."""
        await self._initialized.wait()
        fuse_readahead.raise_read_ahead(self._options.mountpoint)
        fuse_background.raise_background(self._options.mountpoint)

    async def _watch_signals(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload_key()
                    continue
                self._signals += 1
                if self._signals > 1 and number == signal.SIGINT:
                    self.left_at_once = True
                    self._leave.cancel()
                again = "; a second Ctrl-C leaves at once, the rest safe" if number == signal.SIGINT else ""
                log.info("%s: sending what is pending, then unmounting%s", signal.Signals(number).name, again)
                self._ending.set()

    async def _reload_key(self) -> None:
        try:
            await self._key.reload()
        except B2MountError as exc:
            log.error("SIGHUP: %s", "; ".join(str(exc).splitlines()))

    _leave = trio.CancelScope()

    async def _flush(self, mounted: Mounted) -> list[Failure]:
        """Send what is queued; at most until a second SIGINT says to leave it."""
        if self.left_at_once:
            await mounted.fs.commit_all()  # local: what is written is safe, and sent another time
            return _left(self._journal)
        with trio.CancelScope() as self._leave:
            await mounted.fs.commit_all()
            waiting = len(self._journal.queue)
            if waiting:
                log.info("%s to send", show_count(waiting, "change"))
            return await self._journal.uploader.wait_all()
        return _left(self._journal)


def _metrics_server(listen: Listen, reporter: Reporter) -> MetricsServer:
    from b2mount.mount_metrics import CONTENT_TYPE

    return MetricsServer(listen, reporter.prepare_metrics, CONTENT_TYPE)


def _left(journal: Journal) -> list[Failure]:
    return [Failure(op.name, op.error or B2MountError("not sent yet")) for op in journal.queue.ops.values()]


async def _beside(run: Callable[..., Awaitable[None]], *args: object) -> None:
    """Run what a mount can do without: a bug in it ends it alone, with a traceback in the log."""
    try:
        await run(*args)
    except Exception:
        log.exception("%s: a bug; the mount goes on without it", getattr(run, "__qualname__", run))


def _report(failures: list[Failure], journal: Journal, left_at_once: bool) -> int:
    """Say what is not in B2; return the exit status."""
    if not failures:
        return EXIT_FINE
    why = "was told to leave at once" if left_at_once else "could not be sent"
    log.error(
        "%s not in B2 (%s); safe in %s, and sent at the next mount of the same scope",
        show_count(len(failures), "change"),
        why,
        journal.directory,
    )
    for failure in failures[:20]:
        log.error("not in B2: %s: %s", failure.name, failure.error)
    return EXIT_UNSENT


def _shown_source(mounted: Mounted) -> str:
    single, at = mounted.scope.single, mounted.options.at
    when = "" if at is None else f"@{format_moment(at)}"
    return f"b2:{single.name}/{mounted.scope.directory}{when}" if single is not None else f"b2:{when}"


def _invalidate_inode(ino: int) -> None:
    try:
        pyfuse3.invalidate_inode(ino, attr_only=False)
    except OSError as exc:
        if exc.errno != errno.ENOENT:  # the kernel had forgotten it
            log.info("invalidating inode %d: %s", ino, exc)


def _invalidate_entry(parent: int, name: str) -> None:
    pyfuse3.invalidate_entry_async(parent, os.fsencode(name), ignore_enoent=True)


def _invalidate_entries_now(entries: list[tuple[int, str]]) -> None:
    """Have the kernel forget names before this returns. It may wait for our answers: call in a thread."""
    for parent, name in entries:
        try:
            pyfuse3.invalidate_entry(parent, os.fsencode(name))
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # the kernel had forgotten it
                log.info("invalidating %r: %s", name, exc)
