"""Where a mount keeps its files."""

from pathlib import Path

import pytest

from b2mount.core.places import Places, choose_places

HOME = Path("/home/ann")


def places(
    environ: dict[str, str] | None = None, state: str | None = None, cache: str | None = None
) -> Places:
    return choose_places(
        state_dir=Path(state) if state else None,
        cache_dir=Path(cache) if cache else None,
        environ=environ or {},
        home=HOME,
    )


def test_the_home_directory_holds_both_by_default() -> None:
    assert places() == Places(Path("/home/ann/.local/state/b2mount"), Path("/home/ann/.cache/b2mount"))


def test_xdg_variables_move_both() -> None:
    chosen = places({"XDG_STATE_HOME": "/xs", "XDG_CACHE_HOME": "/xc"})
    assert chosen == Places(Path("/xs/b2mount"), Path("/xc/b2mount"))


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_an_empty_or_relative_xdg_variable_is_ignored(value: str) -> None:
    assert places({"XDG_STATE_HOME": value, "XDG_CACHE_HOME": value}) == places()


def test_systemd_directories_come_before_xdg_and_hold_no_further_directory() -> None:
    chosen = places(
        {
            "STATE_DIRECTORY": "/var/lib/b2mount",
            "CACHE_DIRECTORY": "/var/cache/b2mount",
            "XDG_STATE_HOME": "/x",
        }
    )
    assert chosen == Places(Path("/var/lib/b2mount"), Path("/var/cache/b2mount"))


def test_the_first_of_several_systemd_directories_is_taken() -> None:
    assert places({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}).state == Path("/var/lib/a")


def test_a_given_cache_directory_holds_the_state_too() -> None:
    chosen = places({"STATE_DIRECTORY": "/var/lib/b2mount"}, cache="/fast")
    assert chosen == Places(Path("/fast/state"), Path("/fast"))


def test_a_given_state_directory_comes_before_all() -> None:
    chosen = places({"STATE_DIRECTORY": "/var/lib/b2mount"}, state="/safe", cache="/fast")
    assert chosen == Places(Path("/safe"), Path("/fast"))
