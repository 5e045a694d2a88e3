"""A whole denoising step as one CUDA graph: hundreds of launches become one.

A step of SD 1.5 is 700 kernels that take 5 ms, and 15 ms to launch from Python. A graph is captured at the second step of
a kind, the first one having warmed everything up, and replayed from then on. Inputs are copied into tensors that keep their
place, the result is copied out.

Graphs of one UNet share one pool of memory: they never run at once, and each leaves nothing in it but its result. They
live and die with the `Plug` of their UNet, which a table holds weakly: when the weights leave, the graphs do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from custom_kernels.device import on_device_of
from custom_kernels.told import first_line

Inputs = Mapping[str, Tensor]
MOST_GRAPHS = 4
"""Of one UNet; the one that was used longest ago is dropped for a fifth."""


class Recorder(Protocol):
    """The hands: one captures CUDA graphs, another (in tests) computes again."""

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Capture `run`; gives what replays it, and the tensor in which each replay leaves its result."""

    @property
    def held_bytes(self) -> int:
        """Memory that captured graphs keep."""

    def let_go(self) -> None:
        """Nobody has a graph of this any more."""


class CudaRecorder:
    """On the device that is current while it records."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._stream: Any = None
        self.held_bytes = 0

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self._pool is None:
            # A stream of this device: the one that torch takes of itself belongs to the device that captured first.
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        graph = torch.cuda.CUDAGraph()
        # As the capture does when it begins: what is reserved after this is the graph's.
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        try:
            # The outer context puts the stream back even where the end of the capture fails. Other threads (copies of
            # weights, other devices) go on meanwhile; only what this one does is captured.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                result = run()
        except BaseException:
            self._pool = self._stream = None  # of a capture that failed the pool goes on recording
            raise
        self.held_bytes += max(0, torch.cuda.memory_reserved() - before)
        return graph.replay, result

    def let_go(self) -> None:
        self._pool, self._stream, self.held_bytes = None, None, 0


@dataclass
class Captured:
    inputs: dict[str, Tensor]
    replay: Callable[[], None]
    result: Tensor


class StepGraphs:
    """Steps by their key: everything but the values of their inputs."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._captured: OrderedDict[Any, Captured | Literal[False] | None] = OrderedDict()
        """None: seen once. False: it cannot be captured."""
        self.replays = 0
        self.captures = 0
        self.refused = ""
        """Why the last step that could not be captured could not."""

    @property
    def held_bytes(self) -> int:
        return self._recorder.held_bytes

    def run(self, key_of: Callable[[], Any], inputs: Inputs, compute: Callable[[Inputs], Tensor]) -> Tensor:
        """`compute(inputs)`, by a graph from the second time on. The first time may change the key: it is asked for after."""
        key = key_of()
        if key not in self._captured:
            result = compute(inputs)
            self._captured[key_of()] = None
            while len(self._captured) > MOST_GRAPHS:
                self._captured.popitem(last=False)
            return result
        self._captured.move_to_end(key)
        found = self._captured[key]
        if found is None:
            found = self._captured[key] = self._capture(inputs, compute)
        if not found:
            return compute(inputs)
        for name, tensor in inputs.items():
            found.inputs[name].copy_(tensor, non_blocking=True)
        found.replay()
        self.replays += 1
        return found.result.clone()

    def refuse(self, why: str) -> None:
        self.refused = why

    def forget(self) -> None:
        self._captured.clear()
        self._recorder.let_go()

    def _capture(self, inputs: Inputs, compute: Callable[[Inputs], Tensor]) -> Captured | Literal[False]:
        static = {name: tensor.detach().clone() for name, tensor in inputs.items()}
        try:
            with on_device_of(next(iter(static.values()))):
                replay, result = self._recorder.record(lambda: compute(static))
        except Exception as error:  # Triton's errors are of no common kind
            # Out of memory, or an operation that cannot be captured: the step works without, only slower.
            self.refuse(f"the step cannot be captured ({first_line(error)})")
            return False
        self.captures += 1
        return Captured(static, replay, result)
