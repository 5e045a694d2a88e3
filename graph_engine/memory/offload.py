"""Offload: a model that is larger than its room works all the same, block by block.

Every layer gets two hooks. Before it is called, its block is made present; after the last layer of a block was called, a
streamed block leaves its room to the next one. Between times the layer's weights are `Absent`. `streaming.split` says
which blocks stay; copies are issued in program order, as far ahead as there is room, by the rule that `forecast.py`
computes with.

What comes next is known from the pass before: the order in which layers were first called is kept and blocks are packed
in that order, and of each block it is remembered which one followed it last. A misprediction costs a wait, never a result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from graph_engine.errors import OutOfMemory
from graph_engine.memory.absent import Absent, put
from graph_engine.memory.blocks import Block, pinned, sizes, tensors_of
from graph_engine.memory.mover import Mover, offsets
from graph_engine.memory.outline import Outline
from graph_engine.memory.streaming import DEPTH, ring_bytes, split


class _Place(NamedTuple):
    """Where a tensor belongs."""

    owner: Any
    name: str
    absent: Absent


class _Seat(NamedTuple):
    """Where a layer sits: in which block, and whether it is the last one there."""

    block: int
    last: bool


class Streamed:
    """A module at work in `room` bytes. Any number of threads may call its layers; they take turns, layer by layer.

    on_order   told the order in which layers are called, as far as it has shown
    """

    def __init__(
        self, outline: Outline, mover: Mover, room: int, on_order: Callable[[list[str]], None] = lambda order: None
    ) -> None:
        """Raises OutOfMemory, with the numbers, when the room is too small even for streaming."""
        self.module = outline.module
        self.misses = 0
        """Blocks that had to be waited for because nobody expected them."""
        self.outline, self._mover, self._on_order = outline, mover, on_order
        self._lock = threading.RLock()
        """Held while a layer computes: nobody takes its weights away meanwhile."""
        self._places = {
            name: _places(self.module.get_submodule(name)) for block in outline.blocks for name in block.layers
        }
        self._tickets: dict[int, Any] = {}
        """Blocks that are there or on their way."""
        self._installed: dict[int, frozenset[int]] = {}
        """Blocks whose layers have their tensors -> addresses of their memory."""
        self._seen: dict[str, None] = {}
        """Layers in the order of their first call."""
        self._fresh = False
        """The present pass called a layer that was not seen before."""
        self._blocks: list[Block] = []
        self._kept: frozenset[int] = frozenset()
        self._hooks: list[Any] = []
        self._lent: list[_Place] = []
        self._settle(outline.blocks, room)
        self._hook_all()
        for places in self._places.values():
            for place in places:
                place.absent.bring = self._bring

    @property
    def bytes(self) -> int:
        """What it takes of its room: kept blocks and the ring. Another order of calls may make it more."""
        return self.kept_bytes + self._ring_room

    @property
    def least_bytes(self) -> int:
        """What it can be made to do with."""
        return self.outline.least_room

    def resize(self, room: int) -> None:
        """Make do with less, or use more. Raises OutOfMemory when not even the ring fits; then nothing changed."""
        with self._lock:
            found = split(sizes(self._blocks), room, DEPTH, pinned(self._blocks))
            self._settle(self._blocks if found is not None else self.outline.blocks, room)
            if not self._hooks:
                self._hook_all()

    def begin(self) -> None:
        """Have there what is read without a call of its layer. In the thread that computes: whoever waits for a copy has what
        is computed on his stream wait, and who brings a model ahead is not to hold up the one that is at work."""
        with self._lock:
            for index in range(pinned(self._blocks)):
                if index not in self._tickets:  # it failed before
                    self._fetch(index)
                self._install(index)

    def close(self) -> None:
        """Let everything go. Its layers are absent from now on."""
        with self._lock:
            self._unhook()
            for index in list(self._tickets):
                self._drop(index)
            for places in self._places.values():
                for place in places:
                    place.absent.bring = None
            self._mover.close()

    def _hook_all(self) -> None:
        self._hooks = [
            hook
            for name, seat in self._seats.items()
            if not self._blocks[seat.block].pinned
            for hook in self._hook(self.module.get_submodule(name), name)
        ]

    def _unhook(self) -> None:
        """All of it is there, to stay: its layers are called as if nothing had ever happened."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    # --- which blocks stay ------------------------------------------------------------------------------------------------

    def _settle(self, blocks: list[Block], room: int) -> None:
        """Another packing or another room. Blocks that stay in both are not brought again."""
        found = split(sizes(blocks), room, DEPTH, pinned(blocks))
        if found is None:
            raise OutOfMemory(
                f"{self.outline.name} does not fit into {room:,} bytes, not even block by block: of its "
                f"{self.outline.bytes:,} bytes {self.outline.least_room:,} have to be there at once.",
                remedy="Raise the budget, use a smaller dtype or model, or run fewer jobs at once.",
            )
        kept, same = frozenset(found.kept), blocks == self._blocks
        for index in list(self._tickets):
            if not (same and index in kept and index in self._kept):
                self._drop(index)
        self._blocks, self.room, self._kept, self._ring_room = blocks, room, kept, found.ring_bytes
        # With the gaps that align tensors, a ring of blocks takes a little more than their bytes.
        padded = [offsets([absent.source for absent in self._absent(index)])[1] for index in found.streamed]
        self._mover.ring(ring_bytes(padded, DEPTH))
        self.kept_bytes = sum(blocks[index].bytes for index in kept)
        self.streamed_bytes = sum(sizes(blocks)) - self.kept_bytes
        """Copied in every pass."""
        self._seats = {
            name: _Seat(index, name == block.layers[-1]) for index, block in enumerate(blocks) for name in block.layers
        }
        self._ring: list[int] = []
        """Streamed blocks that are there or on their way, in the order they were asked for."""
        self._after: dict[int, int] = {}
        """Block -> the one that followed it last; else the next one follows."""
        self._cursor = len(blocks) - 1
        """How far the look ahead has come."""
        self._current: int | None = None
        self._last: int | None = None
        for index in range(pinned(blocks)):
            if index not in self._tickets:
                self._fetch(index)
        self._look_ahead()

    def _reorder(self) -> None:
        """A pass is over that showed new layers: pack the blocks in the order in which they were called."""
        order = list(self._seen)
        if not self.streamed_bytes:  # all of it stays; another time there may be less room
            self._on_order(order)
            return
        blocks = self.outline.pack(order)
        if split(sizes(blocks), self.room, DEPTH, pinned(blocks)) is None:
            return  # large blocks side by side: the ring would not fit
        self._on_order(order)
        if blocks != self._blocks:
            self._settle(blocks, self.room)

    # --- hooks ------------------------------------------------------------------------------------------------------------

    def _hook(self, layer: Any, name: str) -> tuple[Any, Any]:
        def before(caller: Any, _: Any) -> None:
            self._lock.acquire()  # until `after`, which is called whatever happens
            if caller is layer and not self._hooks:  # taken away while this thread waited: there is no `after`
                self._lock.release()
                return
            self._enter(name)
            if caller is not layer:
                self._lend(layer, caller)

        def after(caller: Any, _: Any, output: Any) -> Any:
            try:
                if caller is not layer:
                    self._take_back()
                return self._leave(name, output)
            finally:
                if self.streamed_bytes == 0 and len(self._installed) == len(self._blocks):
                    self._unhook()
                self._lock.release()

        # Before the layer's own hooks, which may read its weights (as a weight norm does), and after them.
        return (
            layer.register_forward_pre_hook(before, prepend=True),
            layer.register_forward_hook(after, always_call=True),
        )

    def _lend(self, layer: Any, twin: Any) -> None:
        """A copy of the module by reference, with adapters put into it: its layer has the weights while it is called."""
        for owner, borrower in zip(layer.modules(), twin.modules(), strict=True):
            for entries in (borrower._parameters, borrower._buffers):
                for name, tensor in list(entries.items()):
                    if isinstance(tensor, Absent):
                        self._lent.append(_Place(borrower, name, tensor))
                        put(borrower, name, getattr(owner, name))

    def _take_back(self) -> None:
        for place in self._lent:
            put(place.owner, place.name, place.absent)
        self._lent.clear()

    def _enter(self, name: str) -> None:
        if name not in self._seen:
            self._seen[name] = None
            self._fresh = True
        elif name == next(iter(self._seen)):
            self._begin_pass()
        self.begin()
        index = self._seats[name].block
        if index == self._current:
            return
        left = self._current
        if left is not None and left not in self._kept:  # before its last layer was called
            self._drop(left)
        surprise = self._last is not None and self._next(self._last) != index
        if surprise and self._last is not None:
            self._after[self._last] = index
            for other in self._ring[:]:  # brought for what does not come now
                if other != index:
                    self._drop(other)
        if index not in self._tickets:
            self.misses += 1
            for other in self._ring[:]:
                self._drop(other)
            self._fetch(index)
            surprise = True
        if surprise:
            self._cursor = index
            self._look_ahead()
        self._current = self._last = index
        self._install(index)

    def _begin_pass(self) -> None:
        """A pass is over, and another one begins."""
        if self._fresh:
            self._fresh = False
            self._reorder()
        if not self.streamed_bytes:
            # All that it has is to stay. Layers that no pass calls (the encoder of an autoencoder that only decodes) would
            # keep the hooks on all others for ever, and the kernels from what they do for models that are there.
            for index in list(self._tickets):
                self._install(index)

    def _leave(self, name: str, output: Any) -> Any:
        seat = self._seats[name]
        index = seat.block
        if index in self._kept or index not in self._installed:
            return None
        if type(output) is torch.Tensor and output.untyped_storage().data_ptr() in self._installed[index]:
            output = output.clone()  # the layer hands its weight on, whose room is about to be taken
        else:
            output = None
        if seat.last:
            self._drop(index)
            self._look_ahead()
        return output

    def _bring(self, absent: Absent) -> torch.Tensor | None:
        """A weight that is read without a call of its layer: if it is one that stays, here it is."""
        with self._lock:
            for index in self._kept:
                for place in self._places_in(index):
                    if place.absent.source is absent.source:
                        if index not in self._tickets:
                            self._fetch(index)
                        self._install(index)
                        found: torch.Tensor = getattr(place.owner, place.name)
                        return found
            return None

    # --- copies -----------------------------------------------------------------------------------------------------------

    def _look_ahead(self) -> None:
        """Ask for what comes next: kept blocks that are not there yet at once, streamed ones when there is a slot."""
        for _ in self._blocks:
            index = self._next(self._cursor)
            if index not in self._kept:
                if index in self._tickets or not self._has_slot(index):
                    return
                self._fetch(index)
            elif index not in self._tickets:
                self._fetch(index)
            self._cursor = index

    def _next(self, index: int) -> int:
        """The block that is expected after this one."""
        return self._after.get(index, (index + 1) % len(self._blocks))

    def _has_slot(self, index: int) -> bool:
        held = sum(self._blocks[other].bytes for other in self._ring)
        return len(self._ring) < DEPTH and held + self._blocks[index].bytes <= self._ring_room

    def _fetch(self, index: int) -> None:
        sources = [absent.source for absent in self._absent(index)]
        self._tickets[index] = self._mover.fetch(sources, passing=index not in self._kept)
        if index not in self._kept:
            self._ring.append(index)

    def _install(self, index: int) -> None:
        """Wait until the block is there, and give its layers their tensors."""
        if index in self._installed:
            return
        tensors = self._wait(index)
        by_absent = {
            id(absent): torch.nn.Parameter(tensor, requires_grad=False) if absent.is_parameter else tensor
            for absent, tensor in zip(self._absent(index), tensors, strict=True)
        }
        for place in self._places_in(index):
            put(place.owner, place.name, by_absent[id(place.absent)])
        self._installed[index] = frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)

    def _wait(self, index: int) -> list[torch.Tensor]:
        for again in (True, False):  # what failed when it was brought ahead may succeed now
            try:
                return self._mover.ready(self._tickets[index])
            except BaseException:
                self._drop(index)
                if not again:
                    raise
            self._fetch(index)
        raise AssertionError

    def _drop(self, index: int) -> None:
        if self._installed.pop(index, None) is not None:
            for place in self._places_in(index):
                put(place.owner, place.name, place.absent)
        self._mover.done(self._tickets.pop(index))
        if index in self._ring:
            self._ring.remove(index)
        if index == self._current:
            self._current = None

    def _places_in(self, index: int) -> list[_Place]:
        return [place for name in self._blocks[index].layers for place in self._places[name]]

    def _absent(self, index: int) -> list[Absent]:
        """What a block consists of; a tensor with two places is one."""
        return list({id(place.absent): place.absent for place in self._places_in(index)}.values())


def _places(layer: Any) -> list[_Place]:
    inside = {id(tensor) for tensor in tensors_of(layer)}
    return [
        _Place(owner, name, tensor)
        for owner in layer.modules()
        for entries in (owner._parameters, owner._buffers)
        for name, tensor in entries.items()
        if isinstance(tensor, Absent) and id(tensor) in inside
    ]
