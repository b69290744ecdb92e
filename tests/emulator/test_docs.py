"""The examples of docs/emulator.md run as they stand, but for the address."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, find_program, pattern

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"


def examples() -> list[str]:
    """Give the page's curl commands, those over two lines joined."""
    text = PAGE.read_text()
    found = re.findall(r"^    (curl (?:[^'\n]|'[^']*')*)$", text, flags=re.MULTILINE)
    assert len(found) == text.count("\n    curl ") > 10
    return found


@pytest.mark.tools
def test_each_example_of_the_control_interface_works(tmp_path: Path) -> None:
    if find_program("curl") is None:
        pytest.skip("curl is not installed")
    with Emulator(tmp_path) as emulator:
        emulator.create_bucket("my-bucket")
        key_id, _ = emulator.create_key(["listFiles"])
        for example in examples():
            shorter = example.replace("000…", key_id).replace("1000000}' $U/seed", "1000}' $U/seed")
            command = f"U={emulator.url}/_control; {shorter.replace('curl', 'curl -sS --fail-with-body', 1)}"
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, (example, done.stdout + done.stderr)


def test_the_page_names_every_setting_and_fault(emulator: Emulator) -> None:
    text = PAGE.read_text()
    for name in emulator.settings():
        assert f"`{name}`" in text
    for kind in ("status", "drop_before", "drop_after", "truncate", "corrupt", "stall"):
        assert f"`{kind}`" in text


def test_the_formula_of_seeded_content_is_the_one_on_the_page(emulator: Emulator, bucket: str) -> None:
    assert "P[(crc32(name) + i) mod 65521]" in PAGE.read_text()
    emulator.seed(bucket, [{"name": "by formula", "size": 70_000}])
    assert emulator.download(bucket, "by formula") == pattern("by formula", 0, 70_000)
