"""Movers: they bring the tensors of a block to where they are computed with. One copy after the other, ahead of time.

A mover decides nothing; `offload.py` says what comes when. All movers pass one contract suite
(tests/unit/memory/test_mover_contract.py).
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import torch

from graph_engine.errors import ModelError
from graph_engine.models.sources import Source

ALIGNMENT = 256
"""Bytes; the most that cuBLAS looks at when it chooses an algorithm: packed weights give the bits of those that lie alone."""
SCRATCH_BYTES = 1 << 20
"""Weights of another dtype are converted in pieces of this size."""


class Mover(Protocol):
    """Tickets are opaque. Used by one thread at a time."""

    def ring(self, bytes: int) -> None:
        """From now on blocks that come and go take so many bytes together; none of those before is there any more."""

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Any:
        """Begin to bring these tensors, after all that was asked for before; returns at once. passing: they do not stay."""

    def ready(self, ticket: Any) -> list[torch.Tensor]:
        """The tensors, in the order of the sources; computing with them may begin. Raises ModelError."""

    def done(self, ticket: Any) -> None:
        """What was computed with them has been asked for; their room may be used again once that is over."""

    def close(self) -> None:
        """Nothing is asked for any more."""


class WeightFiles:
    """Reads tensors from open files straight into memory, so that nothing but what is asked for is ever resident.

    A file that is deleted meanwhile can still be read; one that is cut short is a ModelError.
    """

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._scratch = torch.frombuffer(anonymous(SCRATCH_BYTES), dtype=torch.uint8)

    def fill(self, source: Source, target: torch.Tensor) -> None:
        """The tensor of `source`, in its dtype, into a tensor on the host."""
        if source.value is not None:
            target.copy_(source.value)
            return
        if source.strides is not None:  # a file has its values in the order of the shape
            rows = torch.empty(source.shape, dtype=source.dtype)
            self.fill(replace(source, strides=None), rows)
            target.copy_(rows)
            return
        flat = target.reshape(-1)  # its own memory, not a copy: targets are contiguous
        if source.file_dtype == source.dtype:
            self._read(source, 0, flat.view(torch.uint8))
            return
        size, scratch = source.file_dtype.itemsize, self._scratch
        for begin in range(0, source.file_bytes, SCRATCH_BYTES):
            part = scratch[: min(SCRATCH_BYTES, source.file_bytes - begin)]
            self._read(source, begin, part)
            values = part.view(source.file_dtype)
            flat[begin // size : begin // size + len(values)] = values

    def _read(self, source: Source, begin: int, target: torch.Tensor) -> None:
        """Bytes of a tensor from `begin` on, into a flat tensor of bytes. Raises ModelError."""
        content: Any = target.numpy()
        buffer = memoryview(content)
        try:
            file = self._open.get(source.path)
            if file is None:
                file = self._open[source.path] = os.open(source.path, os.O_RDONLY)
            done = 0
            while done < len(buffer):
                count = os.preadv(file, [buffer[done:]], source.offset + begin + done)
                if count == 0:
                    raise OSError(f"it ends inside {source.key}")
                done += count
        except FileNotFoundError:
            raise ModelError(
                f"the weight file {source.path} is gone.",
                remedy="Put it back, or run the load node again.",
                code="model_missing",
            ) from None
        except OSError as error:
            raise ModelError(
                f"the weight file {source.path} is damaged: {error}.",
                remedy="Fetch or convert it again.",
                code="model_damaged",
            ) from error

    def close(self) -> None:
        for file in self._open.values():
            os.close(file)
        self._open.clear()


def anonymous(size: int) -> mmap.mmap:
    """Zeroed memory of its own that goes back to the system, all of it, with the last tensor in it: a heap would keep some."""
    return mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def offsets(sources: Sequence[Source], like_files: bool = False) -> tuple[list[int], int]:
    """Where each tensor begins in one slab, and the slab's size.

    like_files: as far from a multiple of the alignment as in its file. A whole model on the host is mapped from its files,
    and matrix kernels round differently for other alignments: so the results are the same to the bit.
    """
    begins, end = [], 0
    for source in sources:
        mapped = like_files and source.value is None and source.file_dtype == source.dtype
        begins.append(end + (source.offset % ALIGNMENT if mapped else 0))
        end = -(-(begins[-1] + source.bytes) // ALIGNMENT) * ALIGNMENT
    return begins, end


def carve(slab: torch.Tensor, sources: Sequence[Source], begins: Sequence[int]) -> list[torch.Tensor]:
    """The tensors as views of a slab of bytes."""
    return [
        source.laid(slab[begin : begin + source.bytes].view(source.dtype))
        for begin, source in zip(begins, sources, strict=True)
    ]


class HostMover:
    """For the CPU: a thread reads from the files into fresh memory. Nothing is mapped, so resident memory is what is held."""

    def __init__(self) -> None:
        self._files = WeightFiles()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="anyloom weights")

    def ring(self, bytes: int) -> None:
        """Memory of the host needs no slots: each block has its own, which goes back to the system."""

    def fetch(self, sources: Sequence[Source], passing: bool = False) -> Future[list[torch.Tensor]]:
        return self._reader.submit(self._bring, sources)

    def _bring(self, sources: Sequence[Source]) -> list[torch.Tensor]:
        begins, size = offsets(sources, like_files=True)
        memory = anonymous(size)
        tensors = [
            source.laid(torch.frombuffer(memory, dtype=source.dtype, count=math.prod(source.shape), offset=begin))
            if source.bytes
            else torch.empty(source.shape, dtype=source.dtype)
            for begin, source in zip(begins, sources, strict=True)
        ]
        for source, tensor in zip(sources, tensors, strict=True):
            self._files.fill(source, tensor)
        return tensors

    def ready(self, ticket: Future[list[torch.Tensor]]) -> list[torch.Tensor]:
        return ticket.result()

    def done(self, ticket: Future[list[torch.Tensor]]) -> None:
        """The memory goes with its last tensor."""
        ticket.cancel()

    def close(self) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._files.close()
