"""The layers of the project, held by its imports: arrows point down, and each door has one key.

Reads the source with `ast` and imports nothing. An import counts wherever it stands, in a function and under
TYPE_CHECKING too, as does one by name through `importlib.import_module("...")`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
MAX_LINES = 500

# From the bottom up: a layer imports itself and lower ones. Two on one level do not import each other.
LEVELS = {"core": 0, "store": 1, "cache": 2, "journal": 2, "fs": 3, "fuse": 4, "mount": 5, "cli": 6}

# Distributions that one door alone knows, and the files that are this door.
DOORS = {
    "b2sdk": re.compile(r"b2mount/store/b2\.py"),
    "pyfuse3": re.compile(r"b2mount/(fuse|fuse_\w+|mount)\.py"),
}
EMULATOR_STARTERS = ("b2mount/cli/emulator.py", "b2mount/cli/demo.py")

# What core is not to know: clocks, chance, logs, other tasks, processes and machines.
NOT_FOR_CORE = set(
    """
    asyncio atexit concurrent contextvars fcntl getpass http logging multiprocessing platform pwd random sched
    secrets select selectors shutil signal socket sqlite3 ssl subprocess syslog tempfile threading time
    uuid warnings
    """.split()  # noqa: SIM905 (a list of words reads better so)
)
NOT_NAMED_IN_CORE = {"environ", "environb", "getenv"}
NOT_CALLED_IN_CORE = set(
    """
    now utcnow today home cwd getcwd expanduser exists is_file is_dir iterdir mkdir read_text read_bytes
    write_text write_bytes open print input breakpoint
    """.split()  # noqa: SIM905
)


# --- reading imports ---


def imports_of(path: str, source: str) -> Iterator[str]:
    """Yield the dotted name of every module that a file imports; of `from p import n`, `p.n` too."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node) in ("import_module", "__import__"):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def layer_of(module: str) -> str | None:
    """Return the layer of a module of b2mount by its dotted name; None for the bare package."""
    parts = module.split(".")
    if len(parts) < 2 or (parts[1].startswith("__") and parts[1] != "__main__"):
        return None
    return {"__main__": "cli"}.get(parts[1], parts[1].partition("_")[0])


# --- the rules ---


def violations(path: str, source: str) -> list[str]:
    """Return every broken rule in a file, by its path in the project."""
    found = [*_door_violations(path, source)]
    if path.startswith("b2mount/"):
        found += _layer_violations(path, source)
    if path.startswith("b2mount/core/"):
        found += _core_violations(path, source)
    if source.count("\n") > MAX_LINES:
        found.append(f"{path} has {source.count(chr(10))} lines: a second idea wants a second file")
    return found


def _door_violations(path: str, source: str) -> Iterator[str]:
    if not path.startswith("b2mount/"):
        return
    for module in imports_of(path, source):
        door = DOORS.get(module.partition(".")[0])
        if door is not None and not door.fullmatch(path):
            yield f"{path} imports {module}, which is for its door alone"


def _layer_violations(path: str, source: str) -> Iterator[str]:
    here = layer_of(path.removesuffix(".py").replace("/", "."))
    if here is not None and here != "emulator" and here not in LEVELS:
        yield f"{path} is in no layer that this test knows"
        return
    for module in imports_of(path, source):
        there = layer_of(module) if module.partition(".")[0] == "b2mount" else None
        if here == "emulator":
            if module.partition(".")[0] == "b2mount" and there != "emulator" and module != "b2mount":
                yield f"{path} imports {module}: the emulator shares nothing with the rest"
        elif there == "emulator":
            if path not in EMULATOR_STARTERS:
                yield f"{path} imports {module}: the emulator is another program"
        elif there in LEVELS and here != there and (here is None or LEVELS[there] >= LEVELS[here]):
            yield f"{path} imports {module}: imports point down"


def _core_violations(path: str, source: str) -> Iterator[str]:
    for module in imports_of(path, source):
        top = module.partition(".")[0]
        if (top not in sys.stdlib_module_names and top != "b2mount") or top in NOT_FOR_CORE:
            yield f"{path} imports {module}: core knows the standard library's pure part alone"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{path}:{node.lineno} waits: core does not"
        elif isinstance(node, ast.Attribute) and node.attr in NOT_NAMED_IN_CORE:
            yield f"{path}:{node.lineno} reads {node.attr}: it comes in as an argument"
        elif isinstance(node, ast.alias) and node.name in NOT_NAMED_IN_CORE:
            yield f"{path}:{node.lineno} imports {node.name}: it comes in as an argument"
        elif isinstance(node, ast.Call) and _called(node) in NOT_CALLED_IN_CORE:
            yield f"{path}:{node.lineno} calls {_called(node)}(): what the world says comes in as an argument"


# --- the project ---


def sources() -> dict[str, str]:
    files = [*(PROJECT / "b2mount").rglob("*.py"), *(PROJECT / "tests").rglob("*.py")]
    return {str(file.relative_to(PROJECT)): file.read_text() for file in sorted(files)}


def test_no_file_of_the_project_breaks_a_rule() -> None:
    files = sources()
    assert {"b2mount/core/errors.py", "b2mount/store/store.py", "tests/test_layers.py"} <= files.keys()
    assert [rule for path, source in files.items() for rule in violations(path, source)] == []


# --- that the rules can fail ---


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("b2mount/store/wire.py", "import b2sdk.v3"),
        ("b2mount/fs/tree.py", "from b2sdk.v3 import B2Api"),
        ("b2mount/cli/keys.py", "def f():\n    from b2sdk import v3"),
        ("b2mount/cli/keys.py", "importlib.import_module('b2sdk.v3')"),
        ("b2mount/fs/tree.py", "import pyfuse3"),
        ("b2mount/fs/fuse_x.py", "import pyfuse3"),
        ("b2mount/cli/mount.py", "if TYPE_CHECKING:\n    import pyfuse3"),
        ("b2mount/core/names.py", "import trio"),
        ("b2mount/core/names.py", "import click"),
        ("b2mount/core/names.py", "import time"),
        ("b2mount/core/names.py", "from time import monotonic"),
        ("b2mount/core/names.py", "import logging.handlers"),
        ("b2mount/core/names.py", "import threading"),
        ("b2mount/core/names.py", "import asyncio"),
        ("b2mount/core/names.py", "import os\nhome = os.environ['HOME']"),
        ("b2mount/core/names.py", "from os import environ"),
        ("b2mount/core/names.py", "moment = datetime.now(UTC)"),
        ("b2mount/core/names.py", "home = Path.home()"),
        ("b2mount/core/names.py", "text = open('x')"),
        ("b2mount/core/names.py", "async def f() -> None: ..."),
        ("b2mount/core/names.py", "from b2mount.store.store import Store"),
        ("b2mount/core/names.py", "from ..store import store"),
        ("b2mount/core/names.py", "from b2mount import store"),
        ("b2mount/store/b2.py", "from b2mount.cache.blocks import Blocks"),
        ("b2mount/cache/blocks.py", "from b2mount.journal.ops import Op"),
        ("b2mount/journal/ops.py", "from b2mount.cache import blocks"),
        ("b2mount/journal/ops.py", "import b2mount.fs.tree"),
        ("b2mount/fs/tree.py", "from b2mount.fuse import Door"),
        ("b2mount/fuse.py", "from b2mount.mount import run"),
        ("b2mount/fuse_replies.py", "from b2mount import mount"),
        ("b2mount/mount.py", "from b2mount.cli.report import Failure"),
        ("b2mount/__init__.py", "from b2mount.core import errors"),
        ("b2mount/emulator/keys.py", "from b2mount.core.grant import Grant"),
        ("b2mount/emulator/keys.py", "from ..core import grant"),
        ("b2mount/emulator/keys.py", "from b2mount import core"),
        ("b2mount/cli/keys.py", "from b2mount.emulator.keys import Key"),
        ("b2mount/store/b2.py", "import b2mount.emulator"),
        ("b2mount/metrics.py", ""),
        ("b2mount/fs/tree.py", "\n" * 501),
        ("tests/fs/test_tree.py", "\n" * 501),
    ],
)
def test_a_wrong_arrow_is_found(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("b2mount/store/b2.py", "from b2sdk.v3 import B2Api"),
        ("b2mount/fuse.py", "import pyfuse3"),
        ("b2mount/fuse_replies.py", "import pyfuse3\nfrom b2mount import fuse"),
        ("b2mount/mount.py", "import pyfuse3\nfrom b2mount import fuse"),
        ("b2mount/core/names.py", "import re\nfrom pathlib import Path\nfrom b2mount.core import errors"),
        ("b2mount/core/names.py", "from .errors import IllegalName"),
        ("b2mount/core/scope.py", "at = datetime.fromtimestamp(0, UTC)"),
        ("b2mount/store/store.py", "import time, threading, trio\nfrom b2mount.core.grant import Grant"),
        ("b2mount/fs/tree.py", "from b2mount.cache import blocks\nfrom b2mount.journal import ops"),
        (
            "b2mount/cli/main.py",
            "from b2mount import __version__\nimportlib.import_module('b2mount.cli.mount')",
        ),
        ("b2mount/cli/emulator.py", "from b2mount.emulator.server import serve"),
        ("b2mount/cli/demo.py", "from b2mount.emulator.server import serve"),
        ("b2mount/emulator/keys.py", "from b2mount.emulator.errors import Refusal\nfrom . import errors"),
        ("b2mount/__main__.py", "from b2mount.cli.main import main"),
        ("tests/emulator/test_keys.py", "import b2sdk.v3\nfrom b2mount.emulator.keys import Key"),
        ("b2mount/fs/tree.py", "\n" * 500),
    ],
)
def test_a_right_arrow_passes(path: str, source: str) -> None:
    assert violations(path, source) == []
