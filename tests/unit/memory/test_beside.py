"""What nodes keep on a device beside the weights of a model (captured graphs): counted, and told to go in time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from graph_engine import Needs, node
from graph_engine.errors import OutOfMemory
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.reservations import Reservations
from graph_engine.memory.residency import Residency
from graph_engine.models.catalog import Beside, Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile

BYTES = 4 * (8 * 8 + 8)


class Keeper:
    """Stands for the table of captured graphs: bytes by module, as long as nobody tells them to go."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.forgotten: list[int] = []

    def keep(self, module: Any, bytes: int) -> None:
        self.kept[id(module)] = bytes

    def held(self, module: Any) -> int:
        return self.kept.get(id(module), 0)

    def forget(self, module: Any) -> None:
        if self.kept.pop(id(module), None):
            self.forgotten.append(id(module))


class House:
    """A pool with room for two models and a half, and three models, in pieces or whole."""

    def __init__(self, folder: Path, room: int, movers: Any = None) -> None:
        self.keeper = Keeper()
        family = Family(
            "linear", lambda config: torch.nn.Linear(8, 8), beside=Beside(self.keeper.held, self.keeper.forget)
        )
        self.pool = ModelPool(Catalog([family]), {"cpu": room}, movers)
        self.specs = [ModelSpec("linear", {}, (self._file(folder, name),)) for name in "abc"]

    def _file(self, folder: Path, name: str) -> WeightFile:
        path = folder / f"{name}.safetensors"
        save_file({"weight": torch.full((8, 8), float(ord(name))), "bias": torch.zeros(8)}, path)
        return WeightFile.of(path)

    def job(self, number: int, keeps: int = 0, next_use: int | None = None) -> Any:
        """Uses a model, and leaves so much beside it."""
        spec = self.specs[number]
        module = self.pool.lease(spec, "cpu", next_use)
        if keeps:
            self.keeper.keep(module, keeps)
        self.pool.release(spec, "cpu")
        return module

    def told(self) -> list[tuple[int, int]]:
        (device,) = self.pool.stats()
        assert device["used_bytes"] + device["reserved_bytes"] <= device["budget_bytes"]
        assert device["used_bytes"] == sum(model["bytes"] + model["beside_bytes"] for model in device["models"])
        return [(model["bytes"], model["beside_bytes"]) for model in device["models"]]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, 5 * BYTES // 2)


def test_it_is_part_of_what_a_model_holds(house: House) -> None:
    house.job(0, keeps=100)
    assert house.told() == [(BYTES, 100)]
    assert house.pool.beside_of(house.specs[0], "cpu") == 100
    house.job(0, keeps=80)
    assert house.told() == [(BYTES, 80)] and house.keeper.forgotten == []


def test_it_goes_before_the_weights_that_it_is_for(house: House) -> None:
    first = house.job(0, keeps=BYTES, next_use=9)
    house.job(1)
    assert house.keeper.forgotten == [id(first)]
    assert house.told() == [(BYTES, 0), (BYTES, 0)]
    assert house.pool.loads == 2 and house.job(0) is first, "its weights stayed"


def test_it_goes_with_the_weights(house: House) -> None:
    first = house.job(0, keeps=10)
    house.job(1)
    house.job(2)
    assert house.keeper.forgotten == [id(first)] and not house.keeper.kept
    assert len(house.told()) == 2


def test_what_there_is_no_room_for_goes_at_once(house: House) -> None:
    busy = house.pool.lease(house.specs[1], "cpu")
    first = house.job(0, keeps=BYTES)
    assert house.keeper.forgotten == [id(first)]
    assert house.told() == [(BYTES, 0), (BYTES, 0)]
    assert house.keeper.held(busy) == 0
    house.pool.release(house.specs[1], "cpu")


def test_of_a_model_in_use_nothing_is_taken(house: House) -> None:
    house.job(0, keeps=BYTES)
    house.pool.lease(house.specs[0], "cpu")
    with pytest.raises(OutOfMemory):
        house.pool.lease(house.specs[1], "cpu")
    assert house.keeper.forgotten == [] and house.told() == [(BYTES, BYTES)]
    house.pool.release(house.specs[0], "cpu")


def test_it_makes_way_for_what_a_job_needs_beside_its_models(house: House) -> None:
    first = house.job(0, keeps=BYTES)
    house.pool.reserve("cpu", BYTES)
    assert house.keeper.forgotten == [id(first)] and house.told() == [(BYTES, 0)]
    house.pool.unreserve("cpu", BYTES)


@node(id="beside.use", needs=Needs(device=True, models=lambda values: [values["model"]]))
def use(model: int) -> int:
    return model


def test_running_out_of_memory_lets_go_of_all_of_it_before_the_next_try(tmp_path: Path) -> None:
    house = House(tmp_path, 5 * BYTES)
    modules = [house.job(0, keeps=50), house.job(1, keeps=60)]
    type, reservations = use.node_type, Reservations(house.pool)
    error = OutOfMemory("the device has no more.")
    error.__cause__ = RuntimeError("out of memory")
    assert reservations.ask(1, "key", "cpu", type, {}, {"model": house.specs[0]})
    assert reservations._devices["cpu"].admitted_bytes == BYTES + 50, "what it holds beside counts for admission"
    again, _ = reservations.too_large(1, "key", type, {"model": house.specs[0]}, "cpu", error)
    assert again and set(house.keeper.forgotten) == {id(module) for module in modules} and not house.keeper.kept


def test_the_family_is_asked_where_models_come_in_pieces(tmp_path: Path) -> None:
    """There the module outlives its weights, so that its graphs would, too."""
    from graph_engine.memory.mover import HostMover

    house = House(tmp_path, 5 * BYTES // 2, lambda outline: HostMover())
    first = house.job(0, keeps=10)
    assert house.told() == [(BYTES, 10)]
    house.job(1)
    house.job(2)
    assert house.keeper.forgotten == [id(first)]
    assert house.job(0) is first, "its module was kept, empty"
    assert house.keeper.held(first) == 0


# --- the decision alone -----------------------------------------------------------------------------------------------

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), KEYS, st.integers(0, 40)),
        st.tuples(st.just("hold"), KEYS, st.integers(0, 60)),
        st.tuples(st.just("drop"), KEYS, st.just(0)),
        st.tuples(st.just("reserve"), KEYS, st.integers(0, 60)),
    ),
    max_size=30,
)


@pytest.mark.law("P5")
@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_weights_and_what_is_beside_them_never_exceed_the_budget(steps: list[tuple[str, str, int]]) -> None:
    """Whatever comes, leaves and is kept; what was refused is not counted; what leaves is named."""
    residency, held = Residency("cpu", 100), {}
    for what, key, size in steps:
        before, leased = dict(held), {name for name, resident in residency.residents.items() if resident.leases}
        leaving: list[str] = []
        with suppress(OutOfMemory):
            if what == "use":
                if key not in residency.residents:
                    leaving = residency.admit(key, 30)
                residency.lease(key, size or None)
                if size % 2:
                    residency.release(key)
            elif what == "hold" and key in residency.residents and key not in leased:
                held[key] = 0
                leaving = residency.keep_beside(key, size)
                held[key] = size
            elif what == "drop" and key in leased:
                residency.release(key)
            elif what == "reserve":
                leaving = residency.reserve(size)
                residency.unreserve(size)
        for name in leaving:
            held[name] = 0
        assert residency.used_bytes + residency.reserved_bytes <= residency.budget_bytes
        for name, resident in residency.residents.items():
            assert resident.beside_bytes == held.get(name, 0), "what was told to go is named, and nothing else"
        assert all(held.get(name, 0) == before.get(name, 0) for name in leased if name in before)


def test_a_refusal_changes_nothing() -> None:
    residency = Residency("cpu", 100)
    residency.admit("a", 40)
    residency.keep_beside("a", 20)
    residency.admit("b", 30)
    residency.lease("b", None)
    before: Callable[[], Any] = lambda: copy.deepcopy(residency.residents)  # noqa: E731
    kept = before()
    with pytest.raises(OutOfMemory):
        residency.admit("c", 80)
    assert before() == kept


# --- the kernels' own table -------------------------------------------------------------------------------------------


def test_graphs_of_a_real_denoiser_are_seen_and_dropped() -> None:
    from custom_kernels.plug import accelerate_unet
    from nodes.nextgpt.graphs import GRAPHS
    from tests.kernels.small_unets import Again, small_unet

    class Recorder(Again):
        def __init__(self) -> None:
            self.held_bytes = 0

        def record(self, run: Callable[[], Any]) -> Any:
            self.held_bytes += 1_000
            return super().record(run)

        def let_go(self) -> None:
            self.held_bytes = 0

    class Decoder(torch.nn.Module):
        def __init__(self, unet: Any) -> None:
            super().__init__()
            self.unet = unet

    unet, recorder = small_unet("image").eval(), Recorder()
    decoder = Decoder(unet)
    assert GRAPHS.held(decoder) == GRAPHS.held(torch.nn.Linear(1, 1)) == 0
    with torch.no_grad(), accelerate_unet(unet, "reference", keep=True, recorder=recorder):
        for step in range(3):
            unet(torch.ones(1, 4, 8, 8), step, encoder_hidden_states=torch.ones(1, 5, 24))
    assert GRAPHS.held(decoder) == GRAPHS.held(unet) == recorder.held_bytes == 1_000
    GRAPHS.forget(decoder)
    assert recorder.held_bytes == GRAPHS.held(unet) == 0
