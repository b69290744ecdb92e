"""What this mount has spent today of what it may: asked before each thing that is only worth its price.

The day's counts are kept in a small file of the state directory, so that a mount that is ended and begun
again goes on counting; after `kill -9` what was counted since the last saving is missing from it.
"""

import datetime
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from b2mount.core.budget import TTL_FACTOR, Day, Item, Limits, Stage, consequence, day_from_json, stage_of
from b2mount.store.counting import CapMet, Counters, dollars_of_day

log = logging.getLogger("b2mount.budget")

FILE = "today.json"
LOOK_SECONDS = 5.0  # between two looks at what is to be told and saved; a guess: soon enough for people
# so is this: what a crash may forget of a day's counts, against a small write now and then
SAVE_SECONDS = 15.0


class Budget:
    """The limits of one mount, and what is spent of them."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self.limits = limits
        self._counters = counters
        self._told: dict[Item, tuple[int, Stage]] = {}  # the day and the stage that was told last
        self._caps_told: dict[str, CapMet] = {}
        self._saved: Day | None = None

    # --- what follows from it -------------------------------------------------------------------------------

    def _is_spent(self, item: Item) -> bool:
        limit = self.limits.of(item)
        return limit is not None and self._counters.today().of(item) >= limit

    @property
    def ttl_factor(self) -> int:
        """How many times as long as usual listings are believed now."""
        return TTL_FACTOR if self._is_spent(Item.CLASS_C) else 1

    @property
    def lists_ahead(self) -> bool:
        """Whether more may be listed than was asked for, where that costs more calls."""
        return not self._is_spent(Item.CLASS_C)

    @property
    def reads_ahead(self) -> bool:
        """Whether bytes may be fetched that a reader has not asked for yet.

        Not touched by the limit of class B calls: a reader in sequence needs fewer of them so.
        """
        return not self._is_spent(Item.DOWNLOAD)

    @property
    def scans_ahead(self) -> bool:
        """Whether files may be fetched that nobody has begun to read."""
        return not (self._is_spent(Item.CLASS_B) or self._is_spent(Item.DOWNLOAD))

    # --- what is told ---------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what `b2mount status --json` tells of today."""
        day = self._counters.today()
        told: dict[str, Any] = {
            "day": _date(day),
            "A": day.class_a,
            "B": day.class_b,
            "C": day.class_c,
            "up": day.bytes_up,
            "down": day.download_bytes,
            "cost_dollars": dollars_of_day(day),
            "budget": {},
        }
        for item in Item:
            limit = self.limits.of(item)
            if limit is not None:
                stage = stage_of(day.of(item), limit)
                told["budget"][item.value] = {
                    "limit": limit,
                    "spent": day.of(item),
                    "stage": stage.value,
                    "means": consequence(item) if stage is Stage.SPENT else None,
                }
        return told

    def tell(self) -> None:
        """Say in the log which limits and caps were met since the last time, once a day each."""
        day = self._counters.today()
        for item in Item:
            limit = self.limits.of(item)
            stage = stage_of(day.of(item), limit)
            told_day, told = self._told.get(item, (day.number, Stage.FINE))
            if told_day != day.number:
                if told is Stage.SPENT:
                    log.info("a new day (UTC): the budget of %s begins anew", _words(item))
                told = Stage.FINE
            if limit is not None and stage is not told and stage is not Stage.FINE:
                self._warn(item, stage, day.of(item), limit)
                told = stage
            self._told[item] = (day.number, told)
        self._tell_caps()

    def _warn(self, item: Item, stage: Stage, spent: int, limit: int) -> None:
        if stage is Stage.NEAR:
            log.warning("%d of %d %s a day are spent", spent, limit, _words(item))
        else:
            log.warning(
                "the %d %s a day are spent: until 00:00 UTC %s; what is asked for still works",
                limit,
                _words(item),
                consequence(item),
            )

    def _tell_caps(self) -> None:
        for kind, cap in self._counters.totals().caps.items():
            told = self._caps_told.get(kind)
            if told is None or told.since_ms != cap.since_ms:
                log.warning("B2 says that a cap of the account is reached (%s, at %s)", kind, cap.call)
            if cap.over_ms is not None and (told is None or told.over_ms != cap.over_ms):
                log.info("the cap on %s is no longer reached", kind)
            self._caps_told[kind] = cap

    # --- what is kept ---------------------------------------------------------------------------------------

    def load(self, directory: Path) -> None:
        """Add what an earlier process counted of today; a file that cannot be read counts as none."""
        try:
            day = day_from_json(json.loads((directory / FILE).read_text()))
        except (OSError, ValueError):
            return
        if day is not None:
            self._counters.add_earlier(day)

    def save(self, directory: Path) -> None:
        """Keep today's counts. Blocks for the disk, briefly; that it fails is no harm beyond them."""
        day = self._counters.today()
        if day == self._saved:
            return
        new = directory / f"{FILE}.new"
        try:
            new.write_text(json.dumps(asdict(day)))
            new.replace(directory / FILE)
        except OSError as exc:
            log.info("today's counts could not be kept: %s", exc.strerror)
            return
        self._saved = day

    async def watch(self, directory: Path, sleep: Callable[[float], Any] = trio.sleep) -> None:
        """Tell and keep now and then, until cancelled."""
        waited = 0.0
        while True:
            await sleep(LOOK_SECONDS)
            self.tell()
            waited += LOOK_SECONDS
            if waited >= SAVE_SECONDS:
                waited = 0.0
                await trio.to_thread.run_sync(self.save, directory)


def _date(day: Day) -> str:
    """Write a day as people do: 2026-11-22."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day.number)).isoformat()


def _words(item: Item) -> str:
    return {
        Item.CLASS_B: "class B calls",
        Item.CLASS_C: "class C calls",
        Item.DOWNLOAD: "bytes of download",
    }[item]
