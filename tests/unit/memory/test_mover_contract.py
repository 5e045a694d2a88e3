"""What every mover does, on every device there is: the right bytes, in order, again and again; errors that name the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from movers_on_host import SlabMover, cuda_mover_on_host
from safetensors.torch import save_file

from graph_engine.errors import ModelError
from graph_engine.memory.cuda_mover import CudaMover, pinned_slabs
from graph_engine.memory.mover import HostMover, offsets
from graph_engine.memory.slabs import Slabs
from graph_engine.memory.streaming import ring_bytes
from graph_engine.models.catalog import Family
from graph_engine.models.sources import Source, find_sources
from graph_engine.models.spec import ModelSpec, WeightFile

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


KINDS = {
    "host": lambda slabs, patch: HostMover(),
    "host, packed": lambda slabs, patch: SlabMover(slabs, "trial"),
    "host, without slabs": lambda slabs, patch: SlabMover(slabs, "trial"),
    "cuda's on the host, packed": lambda slabs, patch: cuda_mover_on_host(patch, slabs),
    "cuda's on the host, without slabs": lambda slabs, patch: cuda_mover_on_host(patch, slabs),
    "cuda, packed": lambda slabs, patch: CudaMover(torch.device("cuda"), slabs, "trial"),
    "cuda, without host memory": lambda slabs, patch: CudaMover(torch.device("cuda"), slabs, "trial"),
}


@pytest.fixture(params=[pytest.param(kind, marks=CUDA if kind.startswith("cuda,") else ()) for kind in KINDS])
def mover(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    kind = request.param
    slabs = (pinned_slabs if kind.startswith("cuda,") else Slabs)(0 if "without" in kind else 10**9)
    made = KINDS[kind](slabs, monkeypatch)
    yield made
    made.close()
    slabs.clear()
    assert slabs.bytes == 0


TENSORS = {
    "matrix": torch.randn(33, 7),
    "narrow": torch.randn(5, 3).half(),
    "rough": torch.randn(4, 4).bfloat16(),
    "wide": torch.randn(3).double(),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "count": torch.tensor([3, 1], dtype=torch.int64),
    "mask": torch.tensor([True, False, True]),
    "large": torch.randn(700, 600),
}


class Bag(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for key, tensor in TENSORS.items():
            self.register_buffer(key, torch.empty_like(tensor))


def sources(folder: Path, dtype: str = "float32") -> dict[str, Source]:
    path = folder / "weights.safetensors"
    save_file(TENSORS, path)
    spec = ModelSpec("trial", {}, (WeightFile.of(path),), dtype)
    return find_sources(spec, Family("trial", lambda config: Bag()))[1]


def wanted(key: str, dtype: str) -> torch.Tensor:
    tensor = TENSORS[key]
    return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("computed", [False, True])
def test_a_tensor_lies_as_its_source_says(mover: Any, tmp_path: Path, dtype: str, computed: bool) -> None:
    """A convolution in channels-last, between two that lie as files have them; also where no file holds it."""
    picture, film = torch.randn(6, 5, 3, 3), torch.randn(4, 3, 3, 1, 1)
    tensors = {"before": torch.randn(7), "picture": picture, "film": film, "after": torch.randn(2, 2)}
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    forms = {"picture": torch.channels_last, "film": torch.channels_last_3d}
    bag = torch.nn.Module()
    for key, tensor in tensors.items():
        bag.register_buffer(key, torch.empty_like(tensor))
    spec = ModelSpec("trial", {}, (WeightFile.of(path),), dtype)
    found = find_sources(spec, Family("trial", lambda config: bag))[1]
    for key, form in forms.items():
        strides = torch.empty(tensors[key].shape, device="meta", memory_format=form).stride()
        value = tensors[key].to(getattr(torch, dtype)) if computed else None
        found[key] = replace(found[key], strides=strides, value=value)
    for passing in (False, True):
        ticket = mover.fetch(list(found.values()), passing)
        arrived = dict(zip(found, mover.ready(ticket), strict=True))
        for key, tensor in arrived.items():
            assert torch.equal(tensor.cpu(), tensors[key].to(found[key].dtype)), key
            assert tensor.is_contiguous(memory_format=forms.get(key, torch.contiguous_format)), key
        assert not arrived["picture"].is_contiguous()
        mover.done(ticket)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_every_byte_arrives_in_the_dtype_of_the_spec(mover: Any, tmp_path: Path, dtype: str) -> None:
    found = sources(tmp_path, dtype)
    assert sum(source.bytes for source in found.values()) == sum(
        math.prod(t.shape) * wanted(key, dtype).element_size() for key, t in TENSORS.items()
    )
    for _ in range(2):
        ticket = mover.fetch(list(found.values()))
        for key, tensor in zip(found, mover.ready(ticket), strict=True):
            assert tensor.dtype == wanted(key, dtype).dtype
            assert torch.equal(tensor.cpu(), wanted(key, dtype)), key
        mover.done(ticket)


def test_many_may_be_on_their_way(mover: Any, tmp_path: Path) -> None:
    found = sources(tmp_path)
    tickets = [mover.fetch([source]) for source in found.values()]
    for key, ticket in zip(found, tickets, strict=True):
        (tensor,) = mover.ready(ticket)
        assert torch.equal(tensor.cpu(), wanted(key, "float32"))
        mover.done(ticket)


def test_room_that_was_let_go_is_taken_without_harm_to_what_was_computed(mover: Any, tmp_path: Path) -> None:
    """Results of the last block are still being computed when the next one takes its place."""
    source = sources(tmp_path)["large"]
    sums = []
    for _ in range(20):
        ticket = mover.fetch([source])
        (tensor,) = mover.ready(ticket)
        sums.append((tensor * 2).sum())
        del tensor
        mover.done(ticket)
    assert all(torch.equal(entry, sums[0]) for entry in sums)
    assert sums[0].item() == pytest.approx(float(2 * TENSORS["large"].double().sum()), abs=1.0)


def test_what_was_asked_for_need_not_be_used(mover: Any, tmp_path: Path) -> None:
    for source in sources(tmp_path).values():
        mover.done(mover.fetch([source]))


def test_a_value_that_no_file_holds(mover: Any) -> None:
    source = Source("made", (2, 2), torch.float32, value=torch.eye(2))
    (tensor,) = mover.ready(mover.fetch([source]))
    assert torch.equal(tensor.cpu(), torch.eye(2))


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_what_cannot_be_read_is_said_when_it_is_needed_and_others_still_come(
    mover: Any, tmp_path: Path, damage: str
) -> None:
    good = sources(tmp_path)
    (tmp_path / "other").mkdir()
    bad = sources(tmp_path / "other")["large"]
    path = Path(bad.path)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: bad.offset + 100])
    failing, fine = mover.fetch([bad]), mover.fetch([good["scalar"]])
    with pytest.raises(ModelError, match="is gone" if damage == "gone" else "it ends inside large"):
        mover.ready(failing)
    assert mover.ready(fine)[0].item() == 2.5
    mover.done(failing)
    mover.done(fine)


def test_blocks_that_only_pass_share_one_piece_of_memory(mover: Any, tmp_path: Path) -> None:
    """Two at a time, as they are streamed: what is still being computed with is not written over."""
    found = [source for source in sources(tmp_path).values() if source.bytes]
    padded = [offsets([source])[1] for source in found]
    mover.ring(ring_bytes(padded))
    held: list[tuple[Any, Source, torch.Tensor]] = []
    for _ in range(5):
        for source in found:
            if len(held) == 2:
                ticket, before, doubled = held.pop(0)
                assert torch.equal(doubled.cpu(), wanted(before.key, "float32") == wanted(before.key, "float32"))
                mover.done(ticket)
            ticket = mover.fetch([source], passing=True)
            (tensor,) = mover.ready(ticket)
            assert torch.equal(tensor.cpu(), wanted(source.key, "float32")), source.key
            held.append((ticket, source, tensor == tensor))
    for ticket, _, _ in held:
        mover.done(ticket)
    mover.ring(0)
    assert torch.equal(mover.ready(mover.fetch([found[0]], passing=True))[0].cpu(), wanted(found[0].key, "float32"))
