"""A running server, and the archive that it serves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from robustbench_spur.download import transfer
from robustbench_spur.splits.base import Archive
from tests.download.server import BLOCK, CONTENT, NAME, Served, Server, sha256


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without files, and no waiting between tries."""
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setattr(transfer, "BLOCK", BLOCK)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.files = {}
    return running


@pytest.fixture
def served(server: Server) -> Served:
    """The file at ``/file.bin``."""
    return server.files.setdefault("/file.bin", Served())


@pytest.fixture
def archive(server: Server, served: Served) -> Archive:
    """It, with its hash published."""
    return Archive(NAME, (server.url("/file.bin"),), sha256=sha256(CONTENT))


@pytest.fixture
def unpublished(archive: Archive) -> Archive:
    """It, with nothing published."""
    return replace(archive, sha256=None)
