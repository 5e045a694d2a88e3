from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.live import LiveServer

TOKEN = "the token of the tests"


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """An open server, as on one's own machine."""
    with LiveServer(tmp_path_factory.mktemp("open"), allow_hosts=["studio.lan"]) as server:
        yield server


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that wants a token."""
    with LiveServer(tmp_path_factory.mktemp("guarded"), token=TOKEN) as server:
        yield server
