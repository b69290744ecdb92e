"""What every test may use: the fixtures of tests/support, when they are there to load."""

import importlib.util
import os
import signal

from hypothesis import HealthCheck, settings

_FIXTURES = "tests.support.fixtures"


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is not there either
        return False


# A busy machine is no failure. Chance finds new examples, except where every run has to try the same.
_SAME = os.environ.get("B2MOUNT_TEST_DERANDOMIZE") == "1"
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=_SAME,
    database=None if _SAME else settings.default.database,  # type: ignore[union-attr]  # there is one
)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no program under test would hear it

pytest_plugins = [_FIXTURES] if _exists(_FIXTURES) else []
