"""The movers of accelerators where there is none: what they do with slabs, slots and threads, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from graph_engine.memory import cuda_mover
from graph_engine.memory.cuda_mover import CudaMover
from graph_engine.memory.mover import HostMover, carve
from graph_engine.memory.slabs import Slabs
from graph_engine.models.sources import Source


class SlabMover(HostMover):
    """What the mover of an accelerator does with slabs, on the host."""

    def __init__(self, slabs: Slabs, model: str) -> None:
        super().__init__()
        self._slabs, self._slab = slabs, slabs.of(model)

    def _bring(self, sources: Sequence[Source]) -> list[torch.Tensor]:
        pieces, begins, size = self._slab.pieces(sources, self._files)
        room = torch.empty(max(size, 1), dtype=torch.uint8)
        for piece in pieces:
            room[piece.begin : piece.begin + piece.bytes.numel()] = piece.bytes
        return carve(room, sources, begins)

    def close(self) -> None:
        super().close()
        self._slabs.done(self._slab)


class _Event:
    """Everything is over as soon as it was asked for."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timed = enable_timing

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: _Event) -> float:
        assert self.timed and other.timed
        return 0.0

    def synchronize(self) -> None:
        pass


class _Stream:
    def record_event(self, event: _Event | None = None) -> _Event:
        return event or _Event()

    def wait_event(self, event: _Event) -> None:
        pass


def cuda_mover_on_host(patch: pytest.MonkeyPatch, slabs: Slabs, model: str = "trial") -> CudaMover:
    """The mover of CUDA devices with the host's memory in the place of a device's, and without the waiting."""
    patch.setattr(cuda_mover, "_copy_stream", lambda device: _Stream())
    patch.setattr(torch.cuda, "Event", _Event)
    patch.setattr(torch.cuda, "device", lambda device: nullcontext())
    patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    patch.setattr(torch.cuda, "current_stream", lambda device: _Stream())
    return CudaMover(torch.device("cpu"), slabs, model)


def failing_once(patch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException) -> None:
    """The next call of a function raises; those after it do what they always did."""
    original = getattr(owner, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(owner, name, original)
        raise error

    patch.setattr(owner, name, fail)
