"""The ring of the CUDA mover when the device or a copy fails: no slot of it is lost. With the host's memory for a device's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from movers_on_host import cuda_mover_on_host, failing_once

from graph_engine.memory.cuda_mover import CudaMover
from graph_engine.memory.mover import ALIGNMENT
from graph_engine.memory.slabs import Slabs
from graph_engine.models.sources import Source

SOURCES = [Source(name, (ALIGNMENT // 4,), torch.float32, value=torch.randn(ALIGNMENT // 4)) for name in "ab"]


@pytest.fixture
def mover(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaMover]:
    made = cuda_mover_on_host(monkeypatch, Slabs(10**6))
    made.ring(2 * ALIGNMENT)
    yield made
    made.close()


def both_are_in_the_ring(mover: CudaMover) -> bool:
    tickets = [mover.fetch([source], passing=True) for source in SOURCES]
    for source, ticket in zip(SOURCES, tickets, strict=True):
        assert torch.equal(mover.ready(ticket)[0], source.value)
    slots = [ticket.result().slot for ticket in tickets]
    for ticket in tickets:
        mover.done(ticket)
    return all(slot is not None for slot in slots)


def test_a_ring_that_did_not_fit_on_the_device_is_whole_at_the_next_try(
    mover: CudaMover, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, torch, "empty", torch.OutOfMemoryError("CUDA out of memory."))
    ticket = mover.fetch([SOURCES[0]], passing=True)
    with pytest.raises(torch.OutOfMemoryError):
        mover.ready(ticket)
    mover.done(ticket)
    assert both_are_in_the_ring(mover)


def test_a_copy_that_fails_gives_its_slot_back(mover: CudaMover, monkeypatch: pytest.MonkeyPatch) -> None:
    assert both_are_in_the_ring(mover), (
        "and their tensors lie in the slab, so that nothing but the copy is left to fail"
    )
    failing_once(monkeypatch, torch.Tensor, "copy_", RuntimeError("CUDA error: invalid argument"))
    ticket = mover.fetch([SOURCES[0]], passing=True)
    with pytest.raises(RuntimeError, match="invalid argument"):
        mover.ready(ticket)
    mover.done(ticket)
    assert both_are_in_the_ring(mover)
