"""Fixtures for tests that need a server: one emulator a session, one fresh bucket a test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.pages import Machine


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for all tests of the session; who changes its settings puts them back."""
    data: Path = tmp_path_factory.mktemp("emulator")
    with Emulator(data) as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that nobody knows, for this machine's loopback address, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(
        [*command.split(), *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    return cert, key


@pytest.fixture(scope="session")
def tls_emulator(
    certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emulator]:
    """An emulator behind that certificate, as `emulator` otherwise."""
    cert, key = certificate
    arguments = ["--tls-cert", str(cert), "--tls-key", str(key)]
    with Emulator(tmp_path_factory.mktemp("data"), arguments=arguments, cafile=cert) as server:
        yield server


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[str]:
    """Give the name of a fresh bucket, removed afterwards with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    emulator.create_bucket(name)
    yield name
    emulator.clear_faults()
    emulator.wipe(name)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A newcomer's machine with an account of its own; nothing is left mounted on it."""
    # gpg's agent listens on a socket, whose address has room for 107 bytes
    with (
        Emulator(tmp_path / "b2") as emulator,
        tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as gnupg,
    ):
        made = Machine(tmp_path, emulator, Path(gnupg))
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": gnupg}, check=False)
        command = [sys.executable, "-m", "b2mount.cli.main", "unmount", "--force"]
        for point in made.left_mounted():  # after a failure
            subprocess.run([*command, point], timeout=240, check=False)
