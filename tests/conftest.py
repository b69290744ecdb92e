"""What every test may use: the fixtures of tests/support, when they are there to load."""

import importlib.util

from hypothesis import settings

_FIXTURES = "tests.support.fixtures"


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is not there either
        return False


settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

pytest_plugins = [_FIXTURES] if _exists(_FIXTURES) else []
