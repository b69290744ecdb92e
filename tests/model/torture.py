"""Run many random steps, or replay a recorded sequence, cut down to the steps that matter.

    python -m tests.model.torture --steps 20000 --seed 1
    python -m tests.model.torture --replay failure.json --shrink

Each seed decides the steps, the mount's options and the server's settings. A failure is written to
`failure-SEED.json` in the working directory, and cut down with --shrink.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.model.driver import Driver, Mismatch
from tests.model.generator import EVENTS, PART, Generator
from tests.model.operations import Step
from tests.support.emulator import Emulator
from tests.support.mount import MountFailed


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs between runs besides the steps."""

    prefix: str
    options: tuple[str, ...]


def variant_of(seed: int) -> Variant:
    """Choose a key's prefix and the mount's options by seed."""
    chance = random.Random(f"variant {seed}")
    options: list[str] = []
    settle = chance.choice((None, "0", "0.2"))
    if settle is not None:
        options += ["--settle", settle]
    options += ["--listing-ttl", chance.choice(("0", "1", "60", "60"))]
    if chance.random() < 0.5:
        options += ["--memory-size", "1M"]
    if chance.random() < 0.2:
        options += ["--uploads", "1"]
    if chance.random() < 0.15:
        options += ["--hard-delete"]
    if chance.random() < 0.1:
        options += ["--write-through"]
    if chance.random() < 0.5:
        options += ["--spool-size", chance.choice(("300K", "600K", "2M"))]
    return Variant(chance.choice(("", "t/", "deep/er/")), tuple(options))


def with_spool(variant: Variant, size: str | None) -> Variant:
    """Return the variant with another --spool-size, where one is given."""
    if size is None:
        return variant
    options = list(variant.options)
    if "--spool-size" in options:
        at = options.index("--spool-size")
        del options[at : at + 2]
    return Variant(variant.prefix, (*options, "--spool-size", size))


def new_driver(emulator: Emulator, base: Path, variant: Variant) -> Driver:
    """Make a driver on a fresh bucket."""
    bucket = f"model-{uuid.uuid4().hex[:16]}"
    emulator.create_bucket(bucket)
    return Driver(emulator, base, bucket, prefix=variant.prefix, options=variant.options)


def run_random(
    emulator: Emulator,
    base: Path,
    seed: int,
    steps: int,
    events: dict[str, float],
    variant: Variant | None = None,
) -> None:
    """Run *steps* steps of *seed*; the Mismatch raised carries the steps in its `steps`."""
    variant = variant or variant_of(seed)
    generator = Generator(seed, events=events)
    driver = new_driver(emulator, base, variant)
    try:
        with driver:
            for _ in range(steps):
                driver.run(generator.step(driver.existing()))
            driver.run(("check",))
            driver.run(("remount_empty",))
    except (Mismatch, MountFailed, OSError) as exc:
        exc.add_note(f"seed {seed}, {variant}, step {len(driver.steps)}\n{driver.mount.log()[-3000:]}")
        exc.steps = driver.steps  # type: ignore[union-attr]  # carried to whoever writes it down
        raise
    finally:
        emulator.wipe(driver.bucket)


def fails(emulator: Emulator, variant: Variant, steps: list[Step]) -> str | None:
    """Run recorded steps on a fresh mount; return what went wrong, None where nothing does."""
    with tempfile.TemporaryDirectory(prefix="b2mount-model-") as base:
        driver = new_driver(emulator, Path(base), variant)
        try:
            with driver:
                for step in steps:
                    driver.run(step)
                driver.run(("check",))
                driver.run(("remount_empty",))
        except (Mismatch, MountFailed, OSError) as exc:
            return f"{type(exc).__name__}: {exc}"
        finally:
            emulator.wipe(driver.bucket)
    return None


def shrink(emulator: Emulator, variant: Variant, steps: list[Step], *, seconds: float = 600.0) -> list[Step]:
    """Leave out what does not matter, for as long as that goes on failing and time allows."""
    deadline = time.monotonic() + seconds
    size = max(len(steps) // 2, 1)
    while size >= 1 and time.monotonic() < deadline:
        at = 0
        while at < len(steps) and time.monotonic() < deadline:
            shorter = steps[:at] + steps[at + size :]
            if shorter and fails(emulator, variant, shorter):
                steps = shorter
                print(f"  {len(steps)} steps still fail", file=sys.stderr, flush=True)
            else:
                at += size
        size //= 2
    return steps


def main() -> int:
    """Run what the command line asks for; exit status 1 on a mismatch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=int, default=400, help="steps on one bucket before the next seed")
    parser.add_argument("--spool-size", help="for each mount, instead of what the seed chooses")
    parser.add_argument("--faults", action="store_true", help="let calls to the server go wrong")
    parser.add_argument("--replay", type=Path, help="a recorded failure instead of random steps")
    parser.add_argument("--shrink", action="store_true", help="cut a failure down")
    parser.add_argument("--keep-going", action="store_true", help="record a failure and go on")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b2mount-model-") as data, Emulator(Path(data)) as emulator:
        emulator.settings(min_part_size=PART)
        if chosen.replay:
            record = json.loads(chosen.replay.read_text())
            variant = Variant(record["prefix"], tuple(record["options"]))
            return _replay(emulator, variant, [tuple(step) for step in record["steps"]], chosen.shrink)
        return _run_lives(emulator, chosen)


def _run_lives(emulator: Emulator, chosen: argparse.Namespace) -> int:
    events = {**EVENTS, "fault": 12.0 if chosen.faults else 0.0}
    done, seed, status = 0, chosen.seed, 0
    while done < chosen.steps:
        began = time.monotonic()
        steps = min(chosen.life, chosen.steps - done)
        variant = with_spool(variant_of(seed), chosen.spool_size)
        with tempfile.TemporaryDirectory(prefix="b2mount-model-") as base:
            try:
                run_random(emulator, Path(base), seed, steps, events, variant)
            except (Mismatch, MountFailed, OSError) as exc:
                status = 1
                print(f"seed {seed}: {type(exc).__name__}: {exc}\n{exc.__notes__[0]}", flush=True)
                made = getattr(exc, "steps", [])
                _write(Path(f"failure-{seed}.json"), variant, made)
                if chosen.shrink:
                    _replay(emulator, variant, made, True, Path(f"failure-{seed}-short.json"))
                if not chosen.keep_going:
                    return status
        done += steps
        print(f"seed {seed}: {steps} steps in {time.monotonic() - began:.0f} s, {done} so far", flush=True)
        seed += 1
    return status


def _replay(
    emulator: Emulator, variant: Variant, steps: list[Step], shorten: bool, target: Path | None = None
) -> int:
    why = fails(emulator, variant, steps)
    print(why or "does not fail")
    if why and shorten:
        steps = shrink(emulator, variant, steps)
        for step in steps:
            print(f"  {step!r},")
        print(fails(emulator, variant, steps))
        if target is not None:
            _write(target, variant, steps)
    return 1 if why else 0


def _write(path: Path, variant: Variant, steps: list[Step]) -> None:
    record = {"prefix": variant.prefix, "options": variant.options, "steps": steps}
    path.write_text(json.dumps(record))


if __name__ == "__main__":
    sys.exit(main())
