"""What a node may ask of the engine while it runs: folders it cannot leave, models it gives back, chance it can repeat."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from works import context_of, job, typed

from graph_engine import Needs
from graph_engine.errors import Cancelled, ModelError, NotFoundError, PathError
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Outputs, Report, Work
from graph_engine.execute.local import LocalExecutor
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile


def nothing() -> None: ...


NOTHING = typed(nothing)


class Given:
    """A context and what came out of it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.posts: list[tuple[int, str, dict[str, Any]]] = []
        self.pool = ModelPool(
            Catalog([Family("linear", lambda config: torch.nn.Linear(2, 2))]), {"cpu": 10**9, "cpu2": 10**9}
        )
        self.job = job(NOTHING, **options)
        self.context: JobContext = context_of(self.job, folder, lambda *post: self.posts.append(post), self.pool)


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_a_context_knows_where_it_is(tmp_path: Path) -> None:
    given = Given(tmp_path, device="cpu2")
    assert (given.context.run, given.context.node) == (given.job.run, given.job.node)
    assert given.context.device == "cpu2"
    assert Given(tmp_path).context.device == "cpu"
    assert given.context.document == {"title": "t"}
    assert given.context.models_dir == tmp_path / "models"


def test_news_goes_to_the_runner_with_the_job(given: Given) -> None:
    context, number = given.context, given.job.id
    context.progress(1, 4)
    context.progress(2, 4, "half")
    context.preview(b"png", "image/png")
    context.chunk("word")
    context.log("line")
    assert given.posts == [
        (number, "progress", {"done": 1, "total": 4}),
        (number, "progress", {"done": 2, "total": 4, "message": "half"}),
        (number, "preview", {"media_type": "image/png", "image": b"png"}),
        (number, "chunk", {"text": "word"}),
        (number, "log", {"message": "line"}),
    ]


# --- cancellation -------------------------------------------------------------------------------------------------------


@pytest.mark.law("P4")
@pytest.mark.parametrize(
    "point",
    [lambda c: c.check(), lambda c: c.progress(1, 2), lambda c: c.chunk("x"), lambda c: c.model(None)],
    ids=["check", "progress", "chunk", "model"],
)
def test_points_where_a_cancelled_node_ends(given: Given, point: Any) -> None:
    given.context.stop()
    assert given.context.cancelled
    with pytest.raises(Cancelled):
        point(given.context)
    assert given.posts == []


def test_what_a_cancelled_node_may_still_do(given: Given, tmp_path: Path) -> None:
    """Put its things in order: say a word, clear up."""
    given.context.stop()
    given.context.log("clearing up")
    given.context.preview(b"x", "image/png")
    assert given.context.scratch().is_dir()
    assert len(given.posts) == 2


def test_a_wait_ends_at_once_when_the_run_is_cancelled(given: Given) -> None:
    assert given.context.wait(0.01) is False
    threading.Timer(0.05, given.context.stop).start()
    began = time.monotonic()
    assert given.context.wait(30) is True
    assert time.monotonic() - began < 10
    assert given.context.wait(30) is True


# --- folders ------------------------------------------------------------------------------------------------------------


def outward(folder: Path) -> list[str]:
    (folder / "secret.txt").write_text("secret")
    for name in ("input", "output", "temp"):
        (folder / name / "out").symlink_to(folder)
        (folder / name / "secret").symlink_to(folder / "secret.txt")
    absolute = str(folder / "secret.txt")
    return [
        "../secret.txt",
        absolute,
        "out/secret.txt",
        "secret",
        "a/../../secret.txt",
        "output/../../secret.txt",
        "",
        "\x00",
    ]


def test_no_name_leads_out_of_the_folders(given: Given, tmp_path: Path) -> None:
    for name in outward(tmp_path):
        with pytest.raises(PathError):
            given.context.input_path(name)
        with pytest.raises(PathError):
            given.context.input_folder(name)
        if name == "output/../../secret.txt":
            name = "../secret.txt"
        for temporary in (False, True):
            with pytest.raises(PathError):
                given.context.output_path(name, "png", temporary=temporary)
    for path in (tmp_path / "secret.txt", tmp_path / "output/secret", tmp_path / "output/../secret.txt"):
        with pytest.raises(PathError):
            given.context.file(path, "text/plain")


def test_files_are_read_and_written_by_name(given: Given, tmp_path: Path) -> None:
    (tmp_path / "input/in.txt").write_text("in")
    assert given.context.input_path("in.txt").read_text() == "in"
    with pytest.raises(NotFoundError):
        given.context.input_path("none.txt")
    (tmp_path / "input/set").mkdir()
    assert given.context.input_folder("set") == tmp_path / "input/set"
    path = given.context.output_path("deep/name", "txt")
    path.write_text("four")
    assert path == tmp_path / "output/deep/name_00001.txt"
    assert given.context.file(path, "text/plain", lines=1) == {
        "folder": "output", "name": "deep/name_00001.txt", "media_type": "text/plain", "bytes": 4, "lines": 1,
    }  # fmt: skip
    temporary = given.context.output_path("name", "txt", temporary=True)
    assert given.context.file(temporary, "text/plain")["folder"] == "temp"


def test_scratch_space_is_a_jobs_own_and_goes_with_it(given: Given, tmp_path: Path) -> None:
    other = Given(tmp_path)
    folder = given.context.scratch()
    assert folder == given.context.scratch()
    assert folder != other.context.scratch()
    assert folder.is_relative_to(tmp_path / "temp")
    (folder / "deep").mkdir()
    (folder / "deep/file").write_text("x")
    given.context.release()
    assert not folder.exists()
    assert other.context.scratch().is_dir()
    other.context.release()
    assert list((tmp_path / "temp").iterdir()) == []


def test_without_scratch_nothing_is_made_or_removed(given: Given, tmp_path: Path) -> None:
    (tmp_path / "temp/kept").write_text("x")
    given.context.release()
    assert [path.name for path in (tmp_path / "temp").iterdir()] == ["kept"]


# --- chance -------------------------------------------------------------------------------------------------------------


def drawn(context: JobContext, seed: int) -> list[float]:
    found: list[float] = torch.rand(4, generator=context.rng(seed)).tolist()
    return found


def test_one_seed_gives_one_series_in_every_job(given: Given, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = drawn(given.context, 7)
    torch.manual_seed(2)
    assert drawn(Given(tmp_path, device="cpu2").context, 7) == first
    assert drawn(given.context, 8) != first
    assert given.context.rng(7).device.type == "cpu"


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, 2**64, -(2**80) - 5])
def test_any_whole_number_is_a_seed(given: Given, seed: int) -> None:
    assert drawn(given.context, seed) == drawn(given.context, seed)


def test_the_global_series_is_left_alone(given: Given) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawn(given.context, 7)
    assert torch.equal(torch.get_rng_state(), before)


# --- models -------------------------------------------------------------------------------------------------------------


def spec(folder: Path, name: str = "m") -> ModelSpec:
    path = folder / f"{name}.safetensors"
    save_file({"weight": torch.eye(2), "bias": torch.zeros(2)}, path)
    return ModelSpec("linear", {}, (WeightFile.of(path),))


def leases(given: Given) -> list[int]:
    return [model["leases"] for device in given.pool.stats() for model in device["models"]]


def test_models_are_given_back_when_the_job_ends(given: Given, tmp_path: Path) -> None:
    first, second = spec(tmp_path, "first"), spec(tmp_path, "second")
    module = given.context.model(first)
    assert given.context.model(first) is module
    given.context.model(second)
    assert leases(given) == [2, 1]
    given.context.release()
    given.context.release()
    assert leases(given) == [0, 0]


def test_what_cannot_be_given_back_keeps_nothing_else(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = spec(tmp_path, "first"), spec(tmp_path, "second")
    given.context.working_bytes = 100
    given.context.begin()
    for one in (first, second):
        given.context.model(one)
    folder, release = given.context.scratch(), given.pool.release

    def fail(wanted: ModelSpec, device: str) -> None:
        release(wanted, device)
        raise RuntimeError(f"the device is gone with {wanted.extras}")

    monkeypatch.setattr(given.pool, "release", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        given.context.release()
    assert leases(given) == [0, 0] and not folder.exists()
    assert given.pool.stats()[0]["reserved_bytes"] == 0


@pytest.mark.asyncio
async def test_a_job_is_reported_also_when_what_it_held_cannot_be_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the thread it was in goes on with the next one."""
    reports: dict[int, Report] = {}
    executor = LocalExecutor(("cpu",), 1, lambda job, report: reports.update({job: report}))

    def broken(context: JobContext) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(JobContext, "release", broken)
    jobs = [job(typed(nothing, needs=Needs(device=True))) for _ in range(2)]
    for one in jobs:
        executor.start(Work(one, {}, context_of(one, tmp_path, lambda *post: None)))
    until = time.monotonic() + 5
    while len(reports) < 2 and time.monotonic() < until:
        await asyncio.sleep(0.005)
    assert all(isinstance(reports[one.id], Outputs) for one in jobs)
    assert "w.nothing" in caplog.text and "the device is gone" in caplog.text
    await executor.close()


def test_a_model_that_does_not_load_is_no_lease(given: Given, tmp_path: Path) -> None:
    wanted = spec(tmp_path)
    with pytest.raises(ModelError):
        given.context.model({"family": "linear"})
    Path(wanted.files[0].path).unlink()
    with pytest.raises(ModelError):
        given.context.model(wanted)
    given.context.release()
    assert leases(given) == []


def test_a_job_leases_on_its_own_device(tmp_path: Path) -> None:
    given = Given(tmp_path, device="cpu2")
    wanted = spec(tmp_path)
    with pytest.raises(RuntimeError, match="cpu2"):  # torch knows no such device; the point is that it was asked
        given.context.model(wanted)
    given.context.release()
    assert leases(given) == []


def test_the_plans_next_use_reaches_theresidency(tmp_path: Path) -> None:
    """Of two models that are let go, the one that the plan needs later makes room."""
    soon, late = spec(tmp_path, "soon"), spec(tmp_path, "late")
    first, second = Given(tmp_path, next_use={"model": 2}), Given(tmp_path, next_use={"model": 9, "other": None})
    second.context._pool = first.pool
    first.context.model(soon)
    second.context.model(late)
    (device,) = first.pool.stats()
    first.context.release()
    second.context.release()
    residency = first.pool.residency("cpu")
    assert residency.residents[soon.key].next_use < residency.residents[late.key].next_use
    residency.budget_bytes = device["used_bytes"]
    assert residency.admit("new", 1) == [late.key]
