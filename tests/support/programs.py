"""Programs that nobody here wrote, for the tests that drive them on a mount."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.support.emulator import find_program

PROGRAM_SECONDS = 240.0


def need(name: str) -> str:
    """Return the path of a program; skip the test where it is missing, or fail in CI."""
    found = find_program(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is not None:
        return found
    message = f"{name} is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{message}: in CI every program must be there")
    pytest.skip(message)


def need_if_any(name: str, why: str) -> str:
    """Return the path of a program that few machines have; skip the test, saying *why*, without it."""
    found = find_program(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {why}")
    return found


def run(
    *words: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    ok: tuple[int, ...] = (0,),
    stdin: bytes | None = None,
) -> str:
    """Run a program, demand an exit status of *ok*, and return what it printed; *env* is added to ours."""
    done = subprocess.run(
        [need(str(words[0])), *words[1:]],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=stdin if stdin is not None else b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode in ok, f"{' '.join(map(str, words))}: exit status {done.returncode}\n{text}"
    return text


def shell(script: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a bash script that ends at the first failure; return what it printed."""
    return run("bash", "-euo", "pipefail", "-c", script, cwd=cwd, env=env)


def slow(*values: object) -> ParameterSet:
    """Mark one case of a parametrized test as part of the long run alone."""
    return pytest.param(*values, marks=pytest.mark.slow)
