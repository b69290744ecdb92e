"""Where a mount keeps its files: what must not be lost (journal, spool) and what may be (block cache).

Pure: the environment and the home directory come in as arguments, and nothing is created here. Inside each
place the mount makes one directory a scope (core/scope.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "b2mount"


@dataclass(frozen=True, slots=True)
class Places:
    """The two roots; absolute if what was given is."""

    state: Path  # journal, spool, control sockets: must not be deleted
    cache: Path  # blocks: may be deleted at any time without loss


def choose_places(
    *, state_dir: Path | None, cache_dir: Path | None, environ: Mapping[str, str], home: Path
) -> Places:
    """Choose both roots from what was asked for and where the program runs.

    State: as given; else `state` inside a given cache directory (one place for all); else systemd's
    StateDirectory=; else the XDG state directory. Cache: as given; else systemd's CacheDirectory=; else the
    XDG cache directory. A relative `XDG_*` is ignored, as the XDG base directory specification asks.
    """
    return Places(
        state=_state_root(state_dir, cache_dir, environ, home), cache=_cache_root(cache_dir, environ, home)
    )


def _state_root(given: Path | None, cache_dir: Path | None, environ: Mapping[str, str], home: Path) -> Path:
    if given is not None:
        return given
    if cache_dir is not None:
        return cache_dir / "state"
    return _from_systemd(environ, "STATE_DIRECTORY") or _from_xdg(
        environ, "XDG_STATE_HOME", home / ".local" / "state"
    )


def _cache_root(given: Path | None, environ: Mapping[str, str], home: Path) -> Path:
    if given is not None:
        return given
    return _from_systemd(environ, "CACHE_DIRECTORY") or _from_xdg(environ, "XDG_CACHE_HOME", home / ".cache")


def _from_systemd(environ: Mapping[str, str], name: str) -> Path | None:
    """Read a directory that systemd made for the unit; of several, separated by colons, the first."""
    first = environ.get(name, "").split(":")[0]
    return Path(first) if first.startswith("/") else None


def _from_xdg(environ: Mapping[str, str], name: str, default: Path) -> Path:
    value = environ.get(name, "")
    return (Path(value) if value.startswith("/") else default) / PROGRAM
