"""An engine whose devices are processes: values, news, models, crashes, cancel, memory, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from graph_engine.engine import Engine
from graph_engine.execute.worker import BACKOFF_S, WorkerExecutor
from graph_engine.execute.worker_child import START
from graph_engine.memory import pool, view
from graph_engine.memory.devices import device_memory
from graph_engine.record import RunRecord
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
PACK = ROOT / "tests" / "unit" / "execute" / "worker_pack"
SIDE = 64
BYTES = 4 * (SIDE * SIDE + SIDE)
HEADER = 4_000
DEVICES = ("cpu:0", "cpu:1")


def settings_of(folder: Path, **changes: Any) -> Settings:
    return Settings(
        **{"data_dir": folder, "devices": DEVICES, "workers": "process", "custom_nodes": (PACK,), "grace_s": 1.0}
        | changes
    )


async def opened(folder: Path, **changes: Any) -> Engine:
    settings = settings_of(folder, **changes)
    settings.models_path.mkdir(parents=True)
    for number, name in enumerate("abcd"):
        torch.manual_seed(number)
        layer = torch.nn.Linear(SIDE, SIDE)
        save_file(layer.state_dict(), settings.models_path / f"{name}.safetensors")
    return await Engine.open(settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with await opened(tmp_path_factory.mktemp("workers") / "data") as engine:
        yield engine


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": type, "values": values, "links": links or {}}


async def submitted(engine: Engine, nodes: dict[str, Any], targets: list[str] | None = None) -> RunRecord:
    return await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes}, targets=targets)


async def run(engine: Engine, nodes: dict[str, Any], targets: list[str] | None = None) -> RunRecord:
    record = await submitted(engine, nodes, targets)
    return await engine.wait(record.id, 60)


async def events_of(engine: Engine, record: RunRecord, type: str) -> list[dict[str, Any]]:
    return [event.data async for batch in engine.watch(record.id) for event in batch if event.type == type]


def children() -> list[psutil.Process]:
    """The processes of devices. Others may be there, too: Python's own that minds shared memory and semaphores outlives the
    test that began it."""
    return [child for child in psutil.Process().children() if _serves(child)]


def _serves(process: psutil.Process) -> bool:
    try:
        return START in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never became true"
        await asyncio.sleep(0.005)


def hands(engine: Engine) -> WorkerExecutor:
    assert isinstance(engine._executor, WorkerExecutor)
    return engine._executor


# --- values and news ----------------------------------------------------------------------------------------------------


async def test_values_come_back_as_they_went(engine: Engine) -> None:
    nodes = {
        "small": step("v.values", given={"words": ["a", None, 2**70], "flag": True}, size=3),
        "large": step("v.values", {"given": "small.value"}, size=100_000),
        "again": step("v.values", {"given": "large.value"}, size=0),
    }
    record = await run(engine, nodes)
    assert record.status == "succeeded", record.errors
    entry = record.result["again"]["value"]
    found = await engine.artifact(entry["artifact"], entry["port"])
    assert torch.equal(found["given"]["own"], torch.arange(100_000, dtype=torch.float32))
    assert torch.equal(found["given"]["given"]["own"], torch.arange(3.0))
    assert found["given"]["given"]["given"] == {"words": ["a", None, 2**70], "flag": True}
    assert found["own"].shape == (0,)


async def test_what_arrives_may_be_written_to_and_nobody_else_sees_it(engine: Engine) -> None:
    record = await run(engine, {"a": step("v.values", given=1, size=50_000)})
    entry = record.result["a"]["value"]
    found = await engine.artifact(entry["artifact"], entry["port"])
    found["own"] += 1
    record = await run(
        engine, {"a": step("v.values", given=1, size=50_000), "b": step("v.values", {"given": "a.value"})}
    )
    assert record.status == "succeeded"


async def test_lazy_inputs_and_growing_graphs_cross(engine: Engine) -> None:
    nodes = {
        "source": step("v.values", given="x", size=4),
        "lazy": step("v.lazy", {"later": "source.value"}, flag=1),
        "grow": step("v.grow", {"given": "lazy.value"}),
    }
    record = await run(engine, nodes, ["lazy", "grow"])
    assert record.status == "succeeded", record.errors
    lazy, grown = [record.result[name]["value"] for name in ("lazy", "grow")]
    assert (await engine.artifact(lazy["artifact"]))["later"]["given"] == "x"
    assert torch.equal((await engine.artifact(grown["artifact"]))["given"], torch.full((3,), 7.0))


async def test_a_value_without_a_plain_form_is_refused_with_its_place(engine: Engine) -> None:
    record = await run(engine, {"a": step("v.secret"), "b": step("v.values", given=1)})
    assert record.status == "partial"
    (error,) = record.errors
    assert (error["node"], error["code"]) == ("a", "value_unstorable")
    assert "['deep'][0]" in error["message"] and "--workers none" in error["remedy"]


async def test_news_arrive_complete_and_in_order(engine: Engine) -> None:
    record = await submitted(engine, {"talk": step("v.talk", words=200)})
    seen: dict[str, list[dict[str, Any]]] = {}
    async for batch in engine.watch(record.id):  # while it goes on: previews and progress do not outlive their step
        for event in batch:
            seen.setdefault(event.type, []).append(event.data)
    record = await engine.wait(record.id, 60)
    assert record.status == "succeeded", record.errors
    chunks, progress = seen["chunk"], seen["progress"]
    assert "".join(data["text"] for data in chunks) == "".join(f"{number} " for number in range(200))
    assert progress[-1] == {"done": 200, "total": 200, "message": "talking"}
    assert seen["preview"] == [{"media_type": "image/png", "image": b"\x89" * 100_000}]
    assert seen["log"] == [{"message": "said it"}]
    written = engine.folders.resolve("output", record.result["talk"]["text"])
    assert written.read_text() == "talk ['format', 'nodes', 'version']"


async def test_errors_keep_their_place_in_the_node(engine: Engine) -> None:
    record = await run(engine, {"a": step("w.fails"), "b": step("w.exits")})
    messages = {error["node"]: (error["code"], error["message"]) for error in record.errors}
    assert messages["a"][0] == "node_raised"
    assert messages["a"][1].startswith("w.fails raised ValueError: no (contract_nodes.py:")
    assert "SystemExit" in messages["b"][1]
    assert len(children()) == 2, "an exception is no crash"


# --- crashes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("SIGKILL", "signal 9 (SIGKILL)"),
        ("SIGSEGV", "signal 11 (SIGSEGV)"),
        ("exit", "exit code 3"),
    ],
)
@pytest.mark.law("P14")
async def test_what_ends_its_process_is_tried_three_times_and_told(engine: Engine, how: str, what: str) -> None:
    """The other device's jobs, other runs and the server go on."""
    other = await submitted(engine, {f"n{salt}": step("v.nap", seconds=0.1, salt=salt) for salt in range(15)})
    record = await run(engine, {"a": step("w.dies", how=how, words="goodbye, world")})
    assert record.status == "failed"
    (error,) = record.errors
    assert (error["node"], error["code"]) == ("a", "worker_lost")
    assert (
        what in error["message"] and "goodbye, world" in error["message"] and "attempt 3 of w.dies" in error["message"]
    )
    retries = await events_of(engine, record, "retrying")
    assert [data["attempt"] for data in retries] == [2, 3]
    assert all(data["error"]["code"] == "worker_lost" for data in retries)
    assert (await engine.wait(other.id, 60)).status == "succeeded"


@pytest.mark.law("P14")
async def test_what_ends_its_process_twice_succeeds_at_the_third_attempt(engine: Engine, tmp_path: Path) -> None:
    record = await run(engine, {"a": step("w.dies_until", times=2, place=str(tmp_path / "calls"))})
    assert (record.status, record.result["a"]["int"]) == ("succeeded", 3)


async def test_ten_kills_lose_no_run(engine: Engine) -> None:
    """kill -9 of a process in the middle of its job, ten times, while runs go on; no job is hit twice."""
    records = [
        await submitted(
            engine,
            {
                "first": step("v.nap", seconds=0.1, salt=number),
                "second": step("v.bytes", {"before": "first.int"}, size=200_000, salt=number),
                "third": step("v.nap", seconds=0.15, salt=1_000 + number),
            },
        )
        for number in range(30)
    ]
    killed, seen, since = 0, set(), 0.0
    while killed < 10:
        for worker in hands(engine).workers.values():
            child, job = worker.child, engine._runner.jobs.get(worker.job)
            if child is None or job is None or child.begun != job.id or job.id in seen:
                continue
            seen.add(job.id)  # it has begun just now
            if job.attempt == 1 and job.type.id == "v.nap" and time.monotonic() - since > 0.1:
                child.process.send_signal(signal.SIGKILL)
                killed, since = killed + 1, time.monotonic()
        assert not all(record.ended for record in records), "too few jobs to kill"
        await asyncio.sleep(0.002)
    ended = [await engine.wait(record.id, 60) for record in records]
    assert [(record.status, record.errors) for record in ended] == [("succeeded", [])] * len(records)
    assert sum([len(await events_of(engine, record, "retrying")) for record in records]) >= 8, "the kills hit"


async def test_a_process_that_dies_idle_costs_no_attempt(engine: Engine) -> None:
    before = children()
    for child in before:
        child.send_signal(signal.SIGKILL)
    await until(lambda: not any(child.is_running() for child in before))
    record = await run(engine, {"a": step("w.pid"), "b": step("v.nap", seconds=0.0)})
    assert record.status == "succeeded"
    assert record.result["a"]["int"] not in [child.pid for child in before]
    assert await events_of(engine, record, "retrying") == []


# --- cancel and the end of the server ---------------------------------------------------------------------------------------


@pytest.mark.law("P4")
@pytest.mark.parametrize(("type", "limit_s"), [("v.patient", 1.0), ("v.stubborn", 2.0)])
async def test_cancel_ends_within_the_grace_time(engine: Engine, tmp_path: Path, type: str, limit_s: float) -> None:
    """Who listens ends at the next check and keeps its process; who does not is ended with it."""
    mark = tmp_path / "inside"
    pids = {child.pid for child in children()}
    record = await submitted(engine, {"a": step(type, place=str(mark))})
    await until(mark.exists)
    began = time.monotonic()
    await engine.cancel(record.id)
    assert (await engine.wait(record.id, 10)).status == "cancelled"
    assert time.monotonic() - began < limit_s
    record = await run(engine, {f"n{salt}": step("v.nap", seconds=0.05, salt=salt) for salt in range(6)})
    assert record.status == "succeeded"
    assert ({child.pid for child in children()} == pids) is (type == "v.patient")


async def test_what_takes_too_long_and_does_not_listen_is_ended_with_its_process(engine: Engine) -> None:
    record = await run(engine, {"a": step("v.too_slow"), "b": step("v.nap", seconds=0.01, salt=77)})
    assert record.status == "partial"
    assert [(error["node"], error["code"]) for error in record.errors] == [("a", "timeout")]
    after = {f"n{salt}": step("v.nap", seconds=0.01, salt=200 + salt) for salt in range(4)}
    assert (await run(engine, after)).status == "succeeded", "both devices are there again"


SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.integration.test_workers import opened, step, submitted

async def main():
    engine = await opened(Path(sys.argv[1]) / "data")
    await submitted(engine, {"a": step("v.stubborn", place=sys.argv[1] + "/inside")})
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("frozen", [False, True], ids=["listening", "frozen"])
async def test_a_server_that_dies_takes_its_processes_along(tmp_path: Path, frozen: bool) -> None:
    """One of them is at work, one is idle; frozen ones cannot hear that the socket closed."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path), str(ROOT)])  # noqa: ASYNC220  # to be killed
    try:
        await until((tmp_path / "inside").exists, 60)
        processes = psutil.Process(server.pid).children()
        assert len(processes) == 2
        if frozen:
            for process in processes:
                process.suspend()
        server.kill()
        server.wait()
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []
    finally:
        server.kill()
        server.wait()


# --- memory -------------------------------------------------------------------------------------------------------------


def uses(count: int, seconds: float = 0.0) -> dict[str, Any]:
    nodes = {f"load_{name}": step("v.load", name=name) for name in "abcd"}
    for number in range(count):
        name = "abcd"[number % 4]
        nodes[f"use{number}"] = step("v.use", {"model": f"load_{name}.input_projector"}, salt=number, seconds=seconds)
    return nodes


@pytest.mark.law("P5")
async def test_processes_and_the_server_stay_within_one_budget(tmp_path: Path) -> None:
    """One device, "cpu", with room for two models: a process has it, and nodes of the server's threads use models too."""
    budget = 2 * BYTES + HEADER
    engine = await opened(tmp_path / "data", devices=("cpu",), device_bytes=(("cpu", budget),))
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            (entry,) = engine.models.stats()
            most = max(most, entry["used_bytes"] + entry["reserved_bytes"])
            far = engine.models._far["cpu"]
            assert far.room_bytes + engine.models._own_room("cpu") == budget
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    nodes = uses(8, 0.01)
    for number in range(8):
        name = "abcd"[(number + 1) % 4]
        links = {"model": f"load_{name}.input_projector"}
        nodes[f"aside{number}"] = step("v.use_aside", links, salt=number, seconds=0.01)
    nodes["large"] = step("v.need", bytes=budget)
    record = await run(engine, nodes)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert record.status == "succeeded", record.errors
    assert 0 < most <= budget
    results = {name: value["text"].split()[-1] for name, value in record.result.items() if name.startswith("use")}
    for number in range(8):  # the same weights give the same numbers in both
        assert float(results[f"use{(number + 1) % 4}"]) == record.result[f"aside{number}"]["float"]
    await engine.close()


async def test_a_model_larger_than_the_budget_is_streamed_in_the_process(tmp_path: Path) -> None:
    layers = 6
    found = []
    for folder, budget in (("roomy", 10**9), ("narrow", layers * BYTES // 2)):
        engine = await opened(tmp_path / folder, devices=("cpu",), device_bytes=(("cpu", budget),))
        torch.manual_seed(5)
        model = torch.nn.Sequential(*(torch.nn.Linear(SIDE, SIDE) for _ in range(layers)))
        state = {
            f"{2 * int(key[0])}{key[1:]}": value for key, value in model.state_dict().items()
        }  # between them lie GELUs
        save_file(state, engine.settings.models_path / "deep.safetensors")
        nodes = {
            "load": step("v.load", name="deep", layers=layers),
            "use": step("v.use", {"model": "load.input_projector"}),
        }
        record = await run(engine, nodes)
        assert record.status == "succeeded", record.errors
        (device,) = engine.models.stats()
        assert device["budget_bytes"] == budget and device["used_bytes"] <= budget
        assert ["streamed_bytes" in model for model in device["models"]] == [folder == "narrow"]
        found.append(record.result["use"]["text"].split()[-1])
        await engine.close()
    assert found[0] == found[1]


async def test_a_process_that_dies_in_the_middle_of_a_copy_costs_one_attempt(tmp_path: Path) -> None:
    layers = 6
    engine = await opened(tmp_path / "data", devices=("cpu",), device_bytes=(("cpu", layers * BYTES // 2),))
    torch.manual_seed(5)
    state = {
        f"{2 * layer}.{name}": tensor
        for layer in range(layers)
        for name, tensor in torch.nn.Linear(SIDE, SIDE).state_dict().items()
    }
    save_file(state, engine.settings.models_path / "deep.safetensors")
    load, links = step("v.load", name="deep", layers=layers), {"model": "load.input_projector"}
    mark = tmp_path / "died"
    before = [child.pid for child in children()]
    record = await run(engine, {"load": load, "dies": step("v.dies_reading", links, place=str(mark))})
    assert (record.status, record.errors) == ("succeeded", [])
    key, half = mark.read_text().split()
    assert key in state and int(half) == state[key].nbytes // 2, "it was at it"
    retrying = await events_of(engine, record, "retrying")
    assert len(retrying) == 1 and "worker_lost" in str(retrying[0])
    assert [child.pid for child in children()] != before
    undisturbed = await run(engine, {"load": load, "use": step("v.use", links)})
    assert record.result["dies"]["float"] == float(undisturbed.result["use"]["text"].split()[-1])
    (device,) = engine.models.stats()
    assert [(model["leases"], "streamed_bytes" in model) for model in device["models"]] == [(0, True)]
    assert device["reserved_bytes"] == 0
    folders = list(engine.folders.roots["temp"].glob("worker-*"))
    assert len(folders) == 1 and not list(folders[0].iterdir()), "that of the process which died is gone"
    await engine.close()


async def test_a_budget_that_is_too_small_is_refused_with_the_numbers(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "data", devices=("cpu",), device_bytes=(("cpu", 100),))
    record = await run(
        engine, {"load": step("v.load", name="a"), "use": step("v.use", {"model": "load.input_projector"})}
    )
    (error,) = record.errors
    assert error["code"] == "out_of_memory"
    assert "100 bytes" in error["message"]
    await engine.close()


@pytest.mark.parametrize("workers", ["none", "process"])
async def test_steps_go_to_the_device_that_has_their_weights(tmp_path: Path, workers: str) -> None:
    """Two models, used in turn: each is loaded once, on a device of its own. When both are wanted at once and one of them
    is busy with the other's weights, no device stands idle for it."""
    engine = await opened(tmp_path / "data", workers=workers)
    places: dict[str, set[str]] = {"a": set(), "b": set()}
    for salt in range(12):
        name = "ab"[salt % 3 % 2]
        links = {"model": "load.input_projector"}
        record = await run(engine, {"load": step("v.load", name=name), "use": step("v.use", links, salt=salt)})
        assert record.status == "succeeded", record.errors
        places[name].add(record.result["use"]["text"].split()[0])
    assert sorted(map(sorted, places.values())) == [["cpu:0"], ["cpu:1"]]
    assert [len(device["models"]) for device in engine.models.stats()] == [1, 1]
    links = {"model": "load.input_projector"}
    uses = {f"use{n}": step("v.use", links, salt=100 + n, seconds=0.3) for n in range(4)}
    record = await run(engine, {"load": step("v.load", name="a"), **uses})
    lines = [value["text"].split() for name, value in record.result.items() if name.startswith("use")]
    spans = {device: [(float(line[3]), float(line[4])) for line in lines if line[0] == device] for device in DEVICES}
    assert any(one[0] < other[1] and other[0] < one[1] for one in spans[DEVICES[0]] for other in spans[DEVICES[1]]), (
        f"two devices at once: {spans}"
    )
    await engine.close()


async def test_what_a_process_loads_is_known_while_it_works_with_it(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "data", devices=("cpu",))
    links = {"model": "load.input_projector"}
    record = await submitted(engine, {"load": step("v.load", name="a"), "use": step("v.use", links, seconds=0.5)})
    await until(lambda: any(model["leases"] == 1 for model in engine.models.stats()[0]["models"]))
    assert not record.ended
    assert (await engine.wait(record.id, 30)).status == "succeeded"
    assert [model["leases"] for model in engine.models.stats()[0]["models"]] == [0]
    await engine.close()


async def test_the_memory_of_a_device_is_what_its_process_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not ask: that would open the device once more."""

    def opened(device: str) -> tuple[int, int]:
        assert device == "cpu", f"{device} was opened"
        return device_memory(device)

    for module in (view, pool):
        monkeypatch.setattr(module, "device_memory", opened)
    found = {device["device"]: device for device in engine.memory()["devices"]}
    assert [found[device]["total_bytes"] for device in DEVICES] == [device_memory("cpu")[1]] * 2
    assert all(found[device]["budget_bytes"] > 0 for device in DEVICES)


async def test_after_two_crashes_in_a_row_there_is_a_pause(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "data", devices=("cpu",))
    worker = hands(engine).workers["cpu"]
    record = await run(engine, {"a": step("w.dies", how="exit")})
    assert (record.status, worker.crashes) == ("failed", 3)
    began = time.monotonic()
    assert (await run(engine, {"a": step("v.nap", seconds=0.0)})).status == "succeeded"
    assert time.monotonic() - began >= 2 * BACKOFF_S
    assert worker.crashes == 0
    await engine.close()


async def test_a_device_that_dies_is_known_to_hold_nothing(tmp_path: Path) -> None:
    engine = await opened(tmp_path / "data")
    links = {"model": "load.input_projector"}
    await run(engine, {"load": step("v.load", name="a"), "use": step("v.use", links)})
    (device,) = [entry["device"] for entry in engine.models.stats() if entry["models"]]
    child = hands(engine).workers[device].child
    assert child is not None
    child.kill()
    await until(lambda: child.ending is not None)
    assert [entry["models"] for entry in engine.models.stats()] == [[], []]
    record = await run(engine, {"load": step("v.load", name="a"), "use": step("v.use", links, salt=1)})
    assert record.status == "succeeded"
    await engine.close()


async def test_what_happens_to_memory_in_a_process_is_on_the_timeline(engine: Engine) -> None:
    """Loads and waits are told with the server's clock, and lie inside the step that they belong to."""
    before = {device: copies.loads for device, copies in engine.telemetry.devices.items()}
    nodes = {"m": step("v.load", name="d", layers=1), "u": step("v.use", {"model": "m.input_projector"}, salt=4711)}
    engine.models.clear()
    record = await run(engine, nodes, ["u"])
    assert record.status == "succeeded", record.errors
    log = engine._roster.live[record.id].log
    moments = {(event.node, event.type): at for event, at in zip(log.kept(), log.times, strict=True)}
    begun, over = moments["u", "running"], moments["u", "done"]
    spans = [span for span in engine.telemetry.of(record.id) if begun <= span.begin_s <= span.end_s <= over]
    (load,) = [span for span in spans if span.what == "load"]
    assert (load.model, load.bytes) == ("nextgpt.input_projector", BYTES), "by our clock, inside the step it was for"
    waits = [span for span in spans if span.what == "weights"]
    assert [(span.run, span.node) for span in waits] in ([(record.id, "u")], []), "none if it took next to nothing"
    assert waits or load.end_s - load.begin_s < 0.002
    assert engine.telemetry.devices[load.device].loads > before.get(load.device, 0)
    trace = (await engine.timeline(record.id))["traceEvents"]
    names = {(event["cat"], event["name"]) for event in trace if event["ph"] == "X"}
    assert ("memory", "load nextgpt.input_projector") in names
    assert not waits or ("steps", "wait for nextgpt.input_projector") in names


async def test_nothing_is_left_after_many_runs_and_kills(engine: Engine) -> None:
    """Descriptors, memory files, leases, scratch folders: in the server and in its processes, after 200 runs and 4 kills
    in the middle of loading and copying."""

    def counts() -> tuple[int, int, int]:
        gc.collect()
        mapped = sum("memfd:anyloom" in line for line in Path("/proc/self/maps").read_text().splitlines())
        fds = len(os.listdir("/proc/self/fd"))
        return mapped, fds, sum(child.num_fds() for child in children())

    def nodes(number: int) -> dict[str, Any]:
        found = {"big": step("v.values", given=number, size=20_000), "small": step("v.values", {"given": "big.value"})}
        if number % 25 == 0:
            found |= {
                "load": step("v.load", name="abcd"[number % 4]),
                "use": step("v.use", {"model": "load.input_projector"}, salt=number),
            }
        return found

    engine._vault.memory.put = lambda artifact: None  # type: ignore[method-assign]  # results are held by runs only
    await run(engine, nodes(0))
    await run(engine, nodes(1_000))
    before = counts()
    for number in range(10, 210, 10):
        if number in (50, 150):
            if number == 50:  # what is sent to them lies in the socket, and nobody takes it out
                for child in children():
                    child.suspend()
            record = await submitted(engine, nodes(number))
            await until(lambda record=record: record.ended or any(one.job for one in hands(engine).workers.values()))
            for child in children():
                child.kill()
            assert (await engine.wait(record.id, 30)).status == "succeeded"
        records = [await submitted(engine, nodes(number + more)) for more in range(10)]
        assert [(await engine.wait(record.id, 30)).status for record in records] == ["succeeded"] * 10
    await run(engine, nodes(3))
    await run(engine, nodes(1_000))
    await until(lambda: counts()[0] <= before[0])
    assert [now <= then for now, then in zip(counts(), before, strict=True)] == [True] * 3, (counts(), before)
    assert all(model["leases"] == 0 for device in engine.models.stats() for model in device["models"])
    assert all(device["reserved_bytes"] == 0 for device in engine.models.stats())
    assert not list(engine.folders.roots["temp"].glob("worker-*/*"))
    assert len(list(engine.folders.roots["temp"].glob("worker-*"))) == len(DEVICES)
    folder = engine.folders.roots["temp"]
    await engine.close()
    assert children() == []
    assert list(folder.iterdir()) == []
