"""Real small torch modules through real files: loaded once, leased, evicted, refused, released."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine.errors import ModelError, OutOfMemory
from graph_engine.memory.mover import HostMover
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile

BYTES = 4 * (8 * 8 + 8)
"""Of one `Linear(8, 8)` in float32."""


class Turning(torch.nn.Module):
    """A linear layer and a table that no file holds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(size, size)
        self.register_buffer("table", torch.empty(size), persistent=False)


def fill_table(module: Turning) -> None:
    module.table = torch.arange(module.table.shape[0], dtype=torch.float32)


class Builder:
    """Counts how often a module was built; slow enough that threads meet."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.built = seconds, 0

    def __call__(self, config: Mapping[str, Any]) -> Any:
        self.built += 1
        time.sleep(self.seconds)
        return torch.nn.Linear(config["size"], config["size"])


def catalog(*families: Family) -> Catalog:
    return Catalog([
        Family("linear", Builder()),
        Family("turning", lambda config: Turning(config["size"]), finish=fill_table),
        Family("unfinished", lambda config: Turning(config["size"])),
        Family("renamed", Builder(), rename=lambda tensors: {key.removeprefix("model."): t for key, t in tensors.items()}),
        *families,
    ])  # fmt: skip


def write(
    folder: Path, name: str = "weights", dtype: torch.dtype = torch.float32, **tensors: torch.Tensor
) -> WeightFile:
    path = folder / f"{name}.safetensors"
    whole = tensors or {"weight": torch.full((8, 8), float(len(name))), "bias": torch.zeros(8)}
    save_file({key: tensor.to(dtype) for key, tensor in whole.items()}, path)
    return WeightFile.of(path)


def spec(*files: WeightFile, family: str = "linear", dtype: str = "float32", **extras: Any) -> ModelSpec:
    return ModelSpec(family, {"size": 8}, files, dtype, extras)


def pool(budget: int = 10**9, *families: Family) -> ModelPool:
    return ModelPool(catalog(*families), {"cpu": budget})


def held(pool: ModelPool) -> dict[str, tuple[int, int]]:
    (device,) = pool.stats()
    return {model["key"]: (model["bytes"], model["leases"]) for model in device["models"]}


def test_a_module_is_ready_for_inference(tmp_path: Path) -> None:
    module = pool().lease(spec(write(tmp_path, weight=torch.eye(8), bias=torch.ones(8))), "cpu")
    assert torch.equal(module(torch.zeros(1, 8)), torch.ones(1, 8))
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_eight_threads_wait_for_one_load(tmp_path: Path) -> None:
    build = Builder(0.1)
    shared = pool(10**9, Family("slow", build))
    wanted = spec(write(tmp_path), family="slow")
    gate = threading.Barrier(8)

    def lease() -> Any:
        gate.wait(10)
        return shared.lease(wanted, "cpu")

    with ThreadPoolExecutor(8) as threads:
        modules = [future.result(20) for future in [threads.submit(lease) for _ in range(8)]]
    assert len({id(module) for module in modules}) == 1
    assert (build.built, shared.loads) == (1, 1)
    assert held(shared) == {wanted.key: (BYTES, 8)}
    for _ in range(8):
        shared.release(wanted, "cpu")
    assert held(shared) == {wanted.key: (BYTES, 0)}


def test_two_models_load_side_by_side(tmp_path: Path) -> None:
    """The lock is not held while files are read: each build waits for the other to have begun."""
    met = threading.Barrier(2)

    def build(config: Mapping[str, Any]) -> Any:
        met.wait(10)
        return torch.nn.Linear(8, 8)

    shared = pool(10**9, Family("meeting", build))
    file = write(tmp_path)
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(shared.lease, spec(file, family="meeting", n=n), "cpu") for n in range(2)]
        assert len({id(future.result(20)) for future in futures}) == 2


def test_what_is_needed_last_makes_room(tmp_path: Path) -> None:
    weights = {"weight": torch.zeros(64, 64), "bias": torch.zeros(64)}
    files = {name: write(tmp_path, name, **weights) for name in ("late", "soon", "never", "new")}
    shared = pool(3 * files["late"].bytes)
    specs = {name: ModelSpec("linear", {"size": 64}, (file,)) for name, file in files.items()}
    for name, next_use in (("late", 9), ("soon", 2), ("never", None)):
        shared.lease(specs[name], "cpu", next_use)
        shared.release(specs[name], "cpu")
    shared.lease(specs["new"], "cpu")
    assert specs["never"].key not in held(shared)
    shared.lease(specs["never"], "cpu")
    assert set(held(shared)) == {specs[name].key for name in ("soon", "new", "never")}
    assert shared.loads == 5


def test_models_in_use_stay_and_the_next_one_is_refused(tmp_path: Path) -> None:
    first, second = spec(write(tmp_path, "first")), spec(write(tmp_path, "second"))
    shared = pool(first.weight_bytes)
    module = shared.lease(first, "cpu")
    with pytest.raises(OutOfMemory, match="does not fit on cpu"):
        shared.lease(second, "cpu")
    assert shared.lease(first, "cpu") is module
    for _ in range(2):
        shared.release(first, "cpu")
    shared.lease(second, "cpu")
    assert set(held(shared)) == {second.key}


def test_a_dtype_twice_as_wide_as_the_file_counts_twice(tmp_path: Path) -> None:
    """Law P5: what was admitted by the size of its file must fit with its real size as well."""
    big = {"weight": torch.zeros(8, 8), "bias": torch.zeros(8)}
    narrow = write(tmp_path, "narrow", torch.float16, **big)
    other = spec(write(tmp_path, "other"))
    wide = spec(narrow, dtype="float32")
    budget = max(other.weight_bytes + BYTES // 2, narrow.bytes, BYTES)
    shared = pool(budget)
    shared.lease(other, "cpu")
    shared.release(other, "cpu")
    shared.lease(wide, "cpu")
    (device,) = shared.stats()
    assert device["used_bytes"] <= device["budget_bytes"]


@pytest.mark.law("P5")
def test_a_model_that_turns_out_too_large_is_not_kept(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(64, 64), "bias": torch.zeros(64)}
    file = write(tmp_path, "narrow", torch.float16, **tensors)
    wide = ModelSpec("linear", {"size": 64}, (file,), "float32")
    shared = pool(int(file.bytes * 1.2))
    with pytest.raises(OutOfMemory):
        shared.lease(wide, "cpu")
    assert held(shared) == {}
    shared.lease(ModelSpec("linear", {"size": 64}, (file,), "float16"), "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_weights_arrive_in_the_dtype_of_the_spec(tmp_path: Path, dtype: str) -> None:
    shared = pool()
    module = shared.lease(spec(write(tmp_path), dtype=dtype), "cpu")
    assert {parameter.dtype for parameter in module.parameters()} == {getattr(torch, dtype)}
    assert next(iter(held(shared).values()))[0] == sum(p.numel() * p.element_size() for p in module.parameters())


def test_whole_numbers_keep_their_dtype(tmp_path: Path) -> None:
    class Counted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    shared = pool(10**9, Family("counted", lambda config: Counted()))
    path = tmp_path / "counted.safetensors"
    save_file({"steps": torch.tensor([7])}, path)
    module = shared.lease(spec(WeightFile.of(path), family="counted", dtype="float16"), "cpu")
    assert module.steps.dtype == torch.int64
    assert int(module.steps) == 7


def test_several_files_are_one_model(tmp_path: Path) -> None:
    files = write(tmp_path, "part1", weight=torch.eye(8)), write(tmp_path, "part2", bias=torch.zeros(8))
    assert torch.equal(pool().lease(spec(*files), "cpu").weight, torch.eye(8))


def test_published_names_are_renamed(tmp_path: Path) -> None:
    tensors = {"model.weight": torch.eye(8), "model.bias": torch.zeros(8)}
    assert torch.equal(pool().lease(spec(write(tmp_path, **tensors), family="renamed"), "cpu").weight, torch.eye(8))


def test_buffers_that_no_file_holds_are_made_by_finish(tmp_path: Path) -> None:
    tensors = {"linear.weight": torch.eye(8), "linear.bias": torch.zeros(8)}
    file = write(tmp_path, **tensors)
    module = pool().lease(spec(file, family="turning"), "cpu")
    assert module.table.tolist() == list(range(8))
    with pytest.raises(ModelError, match="nothing fills table") as caught:
        pool().lease(spec(file, family="unfinished"), "cpu")
    assert caught.value.problem.code == "model_incomplete"


# --- what is wrong with weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "essence"),
    [
        ({"weight": torch.eye(8)}, "1 keys are missing (bias)"),
        ({"weight": torch.eye(8), "bias": torch.zeros(8), "extra": torch.zeros(1)}, "1 keys have no place (extra)"),
        ({"weight": torch.zeros(8, 4), "bias": torch.zeros(8)}, "weight is (8, 4), not (8, 8)"),
        (
            {"w": torch.eye(8), "bias": torch.zeros(1)},
            "missing (weight); 1 keys have no place (w); 1 tensors have another",
        ),
    ],
    ids=["missing", "unexpected", "shape", "all"],
)
def test_every_key_is_accounted_for(tmp_path: Path, tensors: dict[str, torch.Tensor], essence: str) -> None:
    with pytest.raises(ModelError) as caught:
        pool().lease(spec(write(tmp_path, "mine", **tensors)), "cpu")
    assert caught.value.problem.code == "model_mismatch"
    assert caught.value.message.startswith("mine.safetensors does not hold the weights of linear")
    assert essence in caught.value.message


def test_a_file_cut_short_is_damaged(tmp_path: Path) -> None:
    file = write(tmp_path)
    path = Path(file.path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="is damaged") as caught:
        pool().lease(spec(file), "cpu")
    assert caught.value.problem.code == "model_damaged"


def test_a_file_that_vanished_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path)
    Path(file.path).unlink()
    with pytest.raises(ModelError) as caught:
        pool().lease(spec(file), "cpu")
    assert caught.value.problem.code == "model_missing"


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "model_missing"), (b"", "model_format"), (b"PK\x03\x04" * 50, "model_format"), (b"\x80\x02}q\x00.", "model_format"),
     (b"\xff" * 8 + b"{}", "model_format")],
    ids=["absent", "empty", "zip", "pickle", "lying header"],
)  # fmt: skip
def test_only_safetensors_files_are_weight_files(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        WeightFile.of(path)
    assert caught.value.problem.code == code


def test_unknown_families_and_things_that_are_no_spec(tmp_path: Path) -> None:
    shared = pool()
    with pytest.raises(ModelError, match="there is no model family 'nobody'"):
        shared.lease(spec(write(tmp_path), family="nobody"), "cpu")
    with pytest.raises(ModelError, match="takes a ModelSpec, got dict"):
        shared.lease({}, "cpu")  # type: ignore[arg-type]
    assert held(shared) == {}


def test_a_failed_load_leaves_no_trace_and_may_be_tried_again(tmp_path: Path) -> None:
    file = write(tmp_path)
    path = Path(file.path)
    whole = path.read_bytes()
    shared, wanted = pool(), spec(file)
    path.write_bytes(whole[:-1])
    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(shared.lease, wanted, "cpu") for _ in range(4)]:
            assert isinstance(future.exception(20), ModelError)
    assert held(shared) == {}
    path.write_bytes(whole)
    shared.lease(wanted, "cpu")
    assert held(shared) == {wanted.key: (BYTES, 1)}


# --- letting go -----------------------------------------------------------------------------------------------------------


def test_clear_drops_what_nobody_uses(tmp_path: Path) -> None:
    shared = pool()
    busy, idle = spec(write(tmp_path, "busy")), spec(write(tmp_path, "idle"))
    shared.lease(busy, "cpu")
    shared.lease(idle, "cpu")
    shared.release(idle, "cpu")
    assert shared.clear() == 1
    assert set(held(shared)) == {busy.key}
    shared.release(busy, "cpu")
    assert (shared.clear(), shared.clear()) == (1, 0)


def test_an_evicted_module_is_really_gone(tmp_path: Path) -> None:
    import gc
    import weakref

    shared = pool()
    wanted = spec(write(tmp_path))
    trace = weakref.ref(shared.lease(wanted, "cpu"))
    shared.release(wanted, "cpu")
    shared.clear()
    gc.collect()
    assert trace() is None


def test_a_spec_is_its_content(tmp_path: Path) -> None:
    file = write(tmp_path)
    wanted = spec(file, tokenizer="t")
    assert ModelSpec.from_dict(wanted.to_dict()) == wanted
    assert ModelSpec.from_dict(wanted.to_dict()).key == wanted.key
    others = [spec(file), spec(file, tokenizer="u"), spec(file, tokenizer="t", dtype="float16"), spec(tokenizer="t")]
    assert len({wanted.key, *(other.key for other in others)}) == 5
    time.sleep(0.01)
    write(tmp_path)
    assert spec(WeightFile.of(Path(file.path)), tokenizer="t").key != wanted.key


def test_two_trainings_of_one_model_are_two_models(tmp_path: Path) -> None:
    """One header, one size, and one mtime, as an archive or an image layer leaves them."""
    keys = set()
    for name in ("first", "other"):
        file = write(tmp_path, name, weight=torch.full((8, 8), float(len(keys))), bias=torch.zeros(8))
        os.utime(file.path, (0, 0))
        keys.add(spec(WeightFile.of(Path(file.path))).key)
    assert len(keys) == 2


def test_what_a_job_took_is_told_only_where_no_model_came_or_went_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph_engine.memory.devices.watch_peak", lambda device: True)
    monkeypatch.setattr("graph_engine.memory.devices.peak_bytes", lambda device: 5 * BYTES)
    models = [spec(write(tmp_path, name)) for name in ("a", "bb")]
    made = pool(BYTES + BYTES // 2)
    assert made.watch("cpu")
    made.lease(models[0], "cpu")
    made.release(models[0], "cpu")
    assert made.taken("cpu", 0) == 4 * BYTES
    assert made.watch("cpu")
    made.lease(models[1], "cpu")  # there is no room for both: the first one leaves
    made.release(models[1], "cpu")
    assert made.taken("cpu", 0) is None, "the peak may be that of a model that has gone"
    assert made.watch("cpu")
    assert made.taken("cpu", 0) == 4 * BYTES
    made.close()


def test_a_model_whose_weights_cannot_be_brought_is_leased_by_nobody_and_comes_when_they_can(tmp_path: Path) -> None:
    class Broken(HostMover):
        broken = True

        def ready(self, ticket: Any) -> list[torch.Tensor]:
            if Broken.broken:
                raise ModelError("the disk is away", remedy="Bring it back.")
            return super().ready(ticket)

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))  # read without a call of a layer, so it is there first
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x * self.scale)

    whole = Scaled()
    file = write(tmp_path, "scaled", **{key: tensor.detach() for key, tensor in whole.state_dict().items()})
    model = spec(file, family="scaled")
    made = ModelPool(catalog(Family("scaled", lambda config: Scaled())), {"cpu": 10**6}, lambda outline: Broken())
    for _ in range(2):
        with pytest.raises(ModelError, match="the disk is away"):
            made.lease(model, "cpu")
        assert all(not entry["leases"] for entry in made.stats()[0]["models"])
    Broken.broken = False
    x = torch.ones(1, 4)
    with torch.no_grad():
        assert torch.equal(made.lease(model, "cpu")(x), whole(x))
    made.release(model, "cpu")
    assert made.clear() == 1
    made.close()


def halve(module: Any) -> None:
    assert module.weight.device.type == "cpu", "what is made smaller is made so on the host"
    module.weight = torch.nn.Parameter(module.weight.half(), requires_grad=False)


HALVED = 2 * 64 * 64 + 4 * 64
"""Bytes of a `Linear(64, 64)` whose weights were halved."""


def halving(loaded_bytes: Any) -> Family:
    return Family(
        "halved", lambda config: torch.nn.Linear(64, 64), halve, whole=lambda spec: True, loaded_bytes=loaded_bytes
    )


def halved_spec(folder: Path) -> ModelSpec:
    return ModelSpec("halved", {}, (write(folder, weight=torch.ones(64, 64), bias=torch.zeros(64)),))


def test_a_model_that_becomes_smaller_as_it_is_loaded_needs_room_for_what_it_becomes(tmp_path: Path) -> None:
    small, budget = halved_spec(tmp_path), HALVED + 100
    made = pool(budget, halving(lambda spec: HALVED))
    assert made.size_of(small) == HALVED < small.weight_bytes
    made.lease(small, "cpu")
    assert held(made) == {small.key: (HALVED, 1)}
    with pytest.raises(OutOfMemory, match="cannot be brought in block by block"):
        pool(budget, halving(None)).lease(small, "cpu")


def test_it_becomes_smaller_before_it_is_on_its_device(tmp_path: Path) -> None:
    from graph_engine.models.load import materialise

    module = materialise(halved_spec(tmp_path), halving(None), "meta")
    assert (module.weight.device.type, module.weight.dtype) == ("meta", torch.float16)


def test_a_size_that_nobody_can_tell_is_that_of_the_files(tmp_path: Path) -> None:
    def gone(spec: ModelSpec) -> int:
        raise ModelError("the file is gone")

    small = halved_spec(tmp_path)
    assert pool(1000).size_of(small) == small.weight_bytes, "there is no such family here"
    assert pool(1000, halving(gone)).size_of(small) == small.weight_bytes
