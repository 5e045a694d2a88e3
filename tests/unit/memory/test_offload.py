"""Models larger than their room: the same results, in the time that was forecast, never in more memory."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_models import Chain, family_of, saved, spec_of
from virtual_mover import VirtualMover

from graph_engine.errors import ModelError, OutOfMemory
from graph_engine.memory.absent import Absent
from graph_engine.memory.forecast import Phase, forecast
from graph_engine.memory.mover import HostMover
from graph_engine.memory.offload import Streamed
from graph_engine.memory.outline import Outline
from graph_engine.models.catalog import Family
from graph_engine.models.load import materialise
from graph_engine.models.spec import ModelSpec, WeightFile

# --- when: the hooks against the pure forecast --------------------------------------------------------------------------


@contextmanager
def chain(folder: Path, sizes: list[int], seconds: list[float], room: int, bandwidth: float) -> Iterator[Any]:
    """A streamed chain and its clock."""
    for index, size in enumerate(sizes):
        assert size > 0, index
    module = Chain(sizes)
    for layer in module.layers:
        layer.weight.zero_()
    family = family_of(lambda: Chain(sizes))
    outline = Outline(spec_of(saved(folder, module)), family, "cpu", least_bytes=1)
    mover = VirtualMover(bandwidth)
    streamed = Streamed(outline, mover, room)
    for layer, duration in zip(streamed.module.layers, seconds, strict=True):
        layer.compute = lambda duration=duration: mover.compute(duration)
    yield streamed, mover
    streamed.close()


SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=9)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), sizes=SIZES, bandwidth=st.floats(0.5, 50), passes=st.integers(1, 5))
@pytest.mark.law("P5")
def test_it_takes_the_time_that_was_forecast_and_no_more_than_its_room(
    data: st.DataObject, sizes: list[int], bandwidth: float, passes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    seconds = [data.draw(st.floats(0, 9)) for _ in sizes]
    least = Outline(spec_of(saved(folder, Chain(sizes))), family_of(lambda: Chain(sizes)), "cpu", (), 1).least_room
    room = data.draw(st.integers(least, sum(sizes) + 5))
    expected = forecast([Phase("m", tuple(sizes), tuple(seconds), passes)], room, bandwidth)
    with chain(folder, sizes, seconds, room, bandwidth) as (streamed, mover):
        for _ in range(passes):
            streamed.module()
        assert mover.now == expected.seconds, "to the bit"
        assert mover.moved_bytes == expected.moved_bytes
        assert streamed.misses == 0
        assert mover.most_held <= streamed.bytes <= room
        with pytest.raises(OutOfMemory, match=f"{least:,} have to be there"):
            streamed.resize(least - 1)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), sizes=SIZES)
@pytest.mark.law("P5")
def test_any_order_of_calls_works_within_the_room(
    data: st.DataObject, sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Layers left out, called twice, backwards: what nobody expected is waited for."""
    folder = tmp_path_factory.getbasetemp()
    least = Outline(spec_of(saved(folder, Chain(sizes))), family_of(lambda: Chain(sizes)), "cpu", (), 1).least_room
    rooms = st.integers(least, sum(sizes))
    with chain(folder, sizes, [0.5] * len(sizes), data.draw(rooms), 10) as (streamed, mover):
        for _ in range(data.draw(st.integers(1, 4))):
            streamed.module(data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=12)))
            assert mover.most_held <= streamed.room
            if data.draw(st.booleans()):
                streamed.resize(data.draw(rooms))
                mover.most_held = 0


def test_the_order_of_the_first_pass_is_expected_in_the_second(tmp_path: Path) -> None:
    sizes, order = [10] * 8, [5, 0, 7, 2, 1, 6, 4, 3]
    with chain(tmp_path, sizes, [1.0] * 8, 40, 100.0) as (streamed, mover):
        streamed.module(order)
        assert streamed.misses > 0
        streamed.module(order)
        misses, begin = streamed.misses, mover.now
        streamed.module(order)
        assert streamed.misses == misses
        assert mover.now - begin == pytest.approx(8.0), "every copy hides behind computing"


def test_layers_that_are_never_called_do_not_keep_the_hooks_on_a_model_that_is_all_there(tmp_path: Path) -> None:
    with chain(tmp_path, [10] * 6, [1.0] * 6, 60, 100.0) as (streamed, _):
        for _ in range(2):
            assert streamed._hooks
            streamed.module([0, 1, 2, 3])
        assert not streamed._hooks
        assert not any(type(weight) is Absent for weight in streamed.module.parameters())
        streamed.module([0, 4])


def test_who_brings_a_model_waits_for_none_of_its_copies(tmp_path: Path) -> None:
    """Waiting has the stream of the job that computes meanwhile wait; that is for the thread that computes with this model."""
    waited: list[Any] = []

    class Told(HostMover):
        def ready(self, ticket: Any) -> list[torch.Tensor]:
            waited.append(ticket)
            return super().ready(ticket)

    class Reads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.full((1,), 3.0))
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x * self.scale)

    module = Reads()
    outline = Outline(spec_of(saved(tmp_path, module)), family_of(Reads), "cpu", least_bytes=1)
    streamed = Streamed(outline, Told(), outline.bytes)
    assert not waited
    streamed.begin()
    assert waited
    x = torch.ones(1, 2)
    with torch.no_grad():
        assert torch.equal(streamed.module(x), module(x))
    streamed.close()


def test_a_loop_over_a_part_of_the_model_is_expected_from_its_second_round(tmp_path: Path) -> None:
    """A denoiser beside an autoencoder: the part that is not called is not brought again and again."""
    with chain(tmp_path, [10] * 8, [1.0] * 8, 60, 100.0) as (streamed, mover):
        loop = [0, 1, 2, 3, 4]
        streamed.module(loop)
        streamed.module(loop)
        misses, begin = streamed.misses, mover.now
        for _ in range(10):
            streamed.module(loop)
        assert streamed.misses == misses
        assert mover.now - begin == pytest.approx(50.0)


# --- what: results --------------------------------------------------------------------------------------------------------


class Oddities(torch.nn.Module):
    """What real models do: own weights beside layers, torch's attention, one weight twice, buffers, a layer called often."""

    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.randn(1, 1, 32))
        self.embedding = torch.nn.Embedding(50, 32)
        self.attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3, enable_nested_tensor=False
        )
        self.norm = torch.nn.BatchNorm1d(32)
        self.normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(32, 32))
        self.recurrent = torch.nn.LSTM(32, 32, 2, batch_first=True)
        self.checked = torch.nn.Linear(32, 32)
        self.checked.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + layer.weight.sum(),))
        self.mixers = torch.nn.ModuleList(torch.nn.Linear(32, 32) for _ in range(6))
        self.places = torch.nn.ParameterList([torch.randn(1, 1, 32)])
        self.head = torch.nn.Linear(32, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("table", torch.empty(32), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids).to(self.head.weight.device, self.head.weight.dtype) + self.token + self.table
        x = self.attention(x, x, x, need_weights=False)[0] + self.places[0]
        x = self.norm(self.encoder(x).transpose(1, 2)).transpose(1, 2)
        x = self.checked(self.recurrent(self.normed(x))[0])
        for mixer in (*self.mixers, self.mixers[0]):
            x = torch.tanh(mixer(x))
        return self.head(x)


def fill_table(module: Oddities) -> None:
    module.table = torch.arange(32, dtype=torch.float32) / 32


ODD = Family("trial", lambda config: Oddities(), fill_table)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_results_are_those_of_the_whole_model_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(3)
    spec = spec_of(saved_odd(tmp_path), dtype)
    whole = materialise(spec, ODD, "cpu")
    whole.table = whole.table.to(getattr(torch, dtype))
    ids = torch.arange(12).reshape(2, 6)
    least = Outline(spec, ODD, "cpu").least_room
    for room in (least, least + 20_000, Outline(spec, ODD, "cpu").bytes):
        streamed = Streamed(Outline(spec, ODD, "cpu"), HostMover(), room)
        streamed.module.table = streamed.module.table.to(getattr(torch, dtype))
        with torch.no_grad():
            expected = whole(ids)
            for _ in range(3):
                assert torch.equal(streamed.module(ids), expected)
        assert streamed.module.head.weight is streamed.module.embedding.weight
        streamed.close()


def saved_odd(folder: Path) -> Any:
    torch.manual_seed(5)
    odd = Oddities()
    path = folder / "odd.safetensors"
    save_file({key: tensor.clone() for key, tensor in odd.state_dict().items()}, path)
    return WeightFile.of(path)


def linear_chain(count: int = 8, width: int = 16) -> torch.nn.Module:
    return torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(count)))


def streamed_chain(folder: Path, room_blocks: int = 3, mover: Any = None, **options: Any) -> Streamed:
    torch.manual_seed(1)
    spec = spec_of(saved(folder, linear_chain()))
    outline = Outline(spec, family_of(linear_chain, **options), "cpu", least_bytes=1)
    return Streamed(outline, mover or HostMover(), room_blocks * outline.blocks[0].bytes)


def test_threads_take_turns(tmp_path: Path) -> None:
    streamed = streamed_chain(tmp_path)
    x = torch.randn(4, 16)
    with torch.no_grad():
        expected = streamed.module(x)
    wrong: list[int] = []

    def use(number: int) -> None:
        with torch.no_grad():
            for _ in range(20):
                if not torch.equal(streamed.module(x), expected):
                    wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    streamed.close()


def test_a_weight_is_asked_what_it_is_and_refuses_to_be_used(tmp_path: Path) -> None:
    streamed = streamed_chain(tmp_path)
    absent = next(p for p in streamed.module.parameters() if isinstance(p, Absent))
    assert (absent.device.type, absent.dtype, absent.shape[0]) == ("cpu", torch.float32, 16)
    assert torch.zeros(2, dtype=torch.float64).to(absent).dtype == torch.float32
    assert isinstance(absent, torch.nn.Parameter)
    with pytest.raises(ModelError, match="without a call of their layer") as caught:
        torch.nn.functional.linear(torch.zeros(1, 16), absent)
    assert caught.value.problem.code == "weights_absent"
    streamed.close()


def test_a_layer_that_fails_leaves_the_others_working(tmp_path: Path) -> None:
    streamed = streamed_chain(tmp_path)
    with torch.no_grad():
        expected = streamed.module(torch.ones(1, 16))
        with pytest.raises(RuntimeError):
            streamed.module(torch.ones(1, 7))
        done = threading.Event()
        threading.Thread(target=lambda: (streamed.module(torch.ones(1, 16)), done.set())).start()
        assert done.wait(30), "the lock is free again"
        assert torch.equal(streamed.module(torch.ones(1, 16)), expected)
    streamed.close()


def test_a_layer_may_hand_its_weight_on(tmp_path: Path) -> None:
    class Token(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = torch.nn.Parameter(torch.randn(1, 64))

        def forward(self) -> torch.Tensor:
            return self.value.expand(3, 64)

    def build() -> torch.nn.Module:
        return torch.nn.ModuleList([Token() for _ in range(6)])

    torch.manual_seed(2)
    spec = spec_of(saved(tmp_path, build()))
    whole = materialise(spec, family_of(build), "cpu")
    streamed = Streamed(Outline(spec, family_of(build), "cpu", (), 1), HostMover(), 3 * 256)
    with torch.no_grad():
        for _ in range(3):
            handed = [layer() for layer in streamed.module]
            assert all(torch.equal(ours, layer()) for ours, layer in zip(handed, whole, strict=True))
    streamed.close()


def test_names_are_mapped_and_what_is_computed_is_kept(tmp_path: Path) -> None:
    """A published file with one fused tensor and a prefix."""

    def build() -> torch.nn.Module:
        return torch.nn.ModuleDict({name: torch.nn.Linear(16, 16, bias=False) for name in "abcdefgh"})

    def rename(state: Any) -> dict[str, Any]:
        first, second = state["fused"].chunk(2)
        return {"a.weight": first, "b.weight": second} | {k[4:]: v for k, v in state.items() if k != "fused"}

    torch.manual_seed(4)
    tensors = {f"old.{name}.weight": torch.randn(16, 16) for name in "cdefgh"} | {"fused": torch.randn(32, 16)}
    save_file(tensors, tmp_path / "old.safetensors")
    spec = spec_of(WeightFile.of(tmp_path / "old.safetensors"))
    family = family_of(build, rename=rename)
    whole = materialise(spec, family, "cpu")
    outline = Outline(spec, family, "cpu", (), 1)
    assert outline.blocks[0] == (("a", "b"), 2 * 1024, True)
    streamed = Streamed(outline, HostMover(), 5 * 1024)
    with torch.no_grad():
        for _ in range(2):
            for name in "hgfedcba":
                assert torch.equal(streamed.module[name](torch.eye(16)), whole[name](torch.eye(16)))
    streamed.close()


# --- bad input ------------------------------------------------------------------------------------------------------------


def test_a_file_that_vanishes_while_it_is_in_use_still_serves(tmp_path: Path) -> None:
    streamed = streamed_chain(tmp_path)
    with torch.no_grad():
        expected = streamed.module(torch.ones(1, 16))
        (tmp_path / "weights.safetensors").unlink()
        assert torch.equal(streamed.module(torch.ones(1, 16)), expected)
    streamed.close()


def test_a_file_that_is_cut_short_while_it_is_in_use_is_an_error_that_names_it(tmp_path: Path) -> None:
    streamed = streamed_chain(tmp_path)
    path = tmp_path / "weights.safetensors"
    with torch.no_grad():
        expected = streamed.module(torch.ones(1, 16))
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(2_000)
        with pytest.raises(ModelError, match=r"weights.safetensors is damaged: it ends inside") as caught:
            [streamed.module(torch.ones(1, 16)) for _ in range(2)]
        assert caught.value.problem.code == "model_damaged"
        with path.open("r+b") as file:
            file.write(content)
        assert torch.equal(streamed.module(torch.ones(1, 16)), expected), "and it recovers"
    streamed.close()


@pytest.mark.parametrize("damage", ["gone", "short", "header"])
def test_damaged_files_are_refused_before_anything_is_read(tmp_path: Path, damage: str) -> None:
    file = saved(tmp_path, linear_chain())
    path, spec = Path(file.path), spec_of(file)
    if damage == "gone":
        path.unlink()
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(ModelError) as caught:
        Outline(spec, family_of(linear_chain), "cpu")
    codes = {"gone": {"model_missing"}, "short": {"model_damaged"}, "header": {"model_damaged", "model_format"}}
    assert caught.value.problem.code in codes[damage]


def test_nothing_is_left_after_many_lives(tmp_path: Path) -> None:
    """A thousand passes in a hundred lives: neither tensors nor file handles nor threads pile up."""

    def count() -> tuple[int, int, int]:
        gc.collect()
        tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        return tensors, len(os.listdir("/proc/self/fd")), threading.active_count()

    def live() -> None:
        streamed = streamed_chain(tmp_path)
        with torch.no_grad():
            for _ in range(10):
                streamed.module(torch.ones(1, 16))
        streamed.close()

    live()
    before = count()
    for _ in range(100):
        live()
    after = count()
    assert after <= before


def test_a_spec_of_other_weights_is_refused_as_a_whole_model_is(tmp_path: Path) -> None:
    file = saved(tmp_path, linear_chain(3))
    errors = []
    for attempt in (lambda: materialise(spec_of(file), family_of(linear_chain), "cpu"),
                    lambda: Outline(spec_of(file), family_of(linear_chain), "cpu")):  # fmt: skip
        with pytest.raises(ModelError) as caught:
            attempt()
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert "10 keys are missing" in errors[0]
    assert isinstance(spec_of(file), ModelSpec)
