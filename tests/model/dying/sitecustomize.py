"""Let a mount die by itself at its Nth step towards the journal or B2, where DIE_AT=N asks for it.

Python loads this from PYTHONPATH at start. Each transaction of the journal and each changing call to B2
counts twice: before and after it has taken effect.
"""

import functools
import os
from typing import Any

CALLS = (
    "upload",
    "copy_file",
    "hide",
    "delete_version",
    "start_large",
    "upload_part",
    "copy_part",
    "finish_large",
    "cancel_large",
)


def arm(die_at: int) -> None:
    """Count steps from now on, and end without a word at step *die_at*."""
    from b2mount.journal.database import Database
    from b2mount.store.b2 import B2Store

    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == die_at:
            os._exit(9)

    def wrap_write(write: Any) -> Any:
        @functools.wraps(write)
        def counted(*args: Any) -> Any:
            step()
            done = write(*args)
            step()
            return done

        return counted

    def wrap_call(call: Any) -> Any:
        @functools.wraps(call)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            step()
            done = await call(*args, **kwargs)
            step()
            return done

        return counted

    Database._write = wrap_write(Database._write)  # type: ignore[method-assign]
    for name in CALLS:
        setattr(B2Store, name, wrap_call(getattr(B2Store, name)))


if "DIE_AT" in os.environ:
    arm(int(os.environ["DIE_AT"]))
