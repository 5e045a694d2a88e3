"""For all tests: one thread per process (on small tensors two are many times slower), and what is shared stays as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def nobody_writes_to_what_all_share() -> Iterator[None]:
    """Events and jobs without data share one empty dict; whoever wrote to it would change them all."""
    yield
    from graph_engine.schedule.messages import NOTHING

    assert NOTHING == {}
