from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.live import LiveServer
from web.limits import Limits


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all tests of this folder."""
    limits = Limits(body_bytes=4 << 20, send_s=1.0, upload_bytes=4 << 20)
    with LiveServer(tmp_path_factory.mktemp("live"), limits=limits) as server:
        yield server
