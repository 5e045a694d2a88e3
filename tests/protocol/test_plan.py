"""What is said before a run, over both doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.engine import Engine
from graph_engine.errors import RequestError
from tests.protocol.live import LiveServer, chain, workflow
from tests.protocol.test_http import take
from tests.protocol.wire import wire
from web import outlook
from web.outlook import summary
from web.routes.plan import answer
from web.state import House

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
PLAN = ("/plan", "post")


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


async def test_steps_that_are_there_are_not_counted_again(live: LiveServer, http: aiohttp.ClientSession) -> None:
    document = chain(6, 4242)
    async with http.post("plan", json={"document": document}) as response:
        before = await take(response, PLAN, 200)
    assert (before["fits"], before["steps"], before["cached"], before["models"]) == ("whole", 6, 0, [])
    async with http.post("runs?wait_s=10", json={"document": document, "targets": ["n3"]}) as response:
        assert response.status == 200
    async with wire(live.url) as socket:
        after = await socket.ask("plan", document=document)
        assert (after["steps"], after["cached"]) == (2, 4)
        assert after["unknown"] == []
        done = await socket.ask("plan", document=document, targets=["n3"])
        assert (done["steps"], done["summary"]) == (0, "nothing to compute: every result is there")


async def test_what_is_new_is_said_to_be_new(http: aiohttp.ClientSession) -> None:
    document = workflow({"w": ("trial.touch", {"path": "/nowhere"})}, ["w"])
    async with http.post("plan", json={"document": document}) as response:
        found = await take(response, PLAN, 200)
    assert (found["unknown"], found["summary"]) == (["trial.touch"], "new, no model")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"device": "cuda:9"}, "/device"),
        ({"budget_bytes": "8GB"}, "/budget_bytes"),
        ({"budget_bytes": True}, "/budget_bytes"),
        ({"budget": 1}, "/budget"),
    ],
)
async def test_questions_that_are_none(http: aiohttp.ClientSession, fields: dict[str, Any], place: str) -> None:
    async with http.post("plan", json={"document": chain(1), **fields}) as response:
        assert (await take(response, PLAN, 400))["error"]["place"] == place
    async with http.post("plan", json={"document": workflow({"a": "no.such"})}) as response:
        await take(response, PLAN, 422)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with the model families that are installed."""
    with LiveServer(tmp_path_factory.mktemp("real"), catalog=None) as server:
        yield server


async def test_models_and_what_moves(real: LiveServer) -> None:
    """Text to picture with a small real model: sizes from its files, streamed in a small budget, refused in none."""
    house: House = real.server.house
    engine: Engine = real.engine

    def ask(**fields: Any) -> dict[str, Any]:
        return real.do(answer(house, {"workflow": "text_to_image", **fields}))

    before = ask()
    assert before["fits"] == "whole"
    assert before["moving"] >= 3
    assert before["copied_bytes"] == sum(use["copied_bytes"] for use in before["models"]) > 0
    assert not any(use["here"] for use in before["models"])
    assert before["summary"].startswith("fits in")
    too_small, enough = 1, max(use["weight_bytes"] for use in before["models"]) + before["working_bytes"]
    assert ask(budget_bytes=too_small)["problem"]
    assert ask(budget_bytes=enough)["fits"] != "no"
    while enough - too_small > 1000:
        middle = (too_small + enough) // 2
        too_small, enough = (too_small, middle) if ask(budget_bytes=middle)["fits"] != "no" else (middle, enough)
    assert ask(budget_bytes=enough)["fits"] == "streamed", "in the least room that is enough, something is streamed"
    assert real.do(engine.runs()) == [], "a question leaves no run behind"
    real.do(_hold(engine, True))
    with pytest.raises(RequestError) as caught:
        ask()
    assert caught.value.problem.code == "held"
    real.do(_hold(engine, False))
    run = real.do(engine.submit(house.library.load("text_to_image")))
    assert real.do(engine.wait(run.id, 120)).status == "succeeded"
    after = ask(values={next(iter(engine_asks(house))): "another text"})
    assert after["moving"] == 0
    assert after["copied_bytes"] == 0
    assert after["summary"].endswith("no model moves")
    assert after["compute_s"] > 0
    assert after["unknown"] == []


async def _hold(engine: Engine, on: bool) -> None:
    engine.hold(on)


async def test_a_question_that_nobody_waits_for_ends(real: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load nodes that take too long are cancelled, and no run stays behind."""
    monkeypatch.setattr(outlook, "PATIENCE_S", 0.3)
    engine: Engine = real.engine
    wait = engine.wait

    async def never(run: str, timeout_s: float | None = None) -> Any:
        return await (wait(run, timeout_s) if timeout_s is not None else asyncio.Event().wait())

    monkeypatch.setattr(engine, "wait", never)
    before = [run.id for run in real.do(engine.runs())]
    with pytest.raises(RequestError) as caught:
        real.do(answer(real.server.house, {"workflow": "text_to_image", "values": {"think.seed": 987}}))
    assert caught.value.problem.code == "busy"
    assert [run.id for run in real.do(engine.runs())] == before


def engine_asks(house: House) -> Iterator[str]:
    for ask in house.library.load("text_to_image")["asks"]:
        yield f"{ask['node']}.{ask['input']}"


async def test_the_line_on_the_button() -> None:
    whole = {
        "fits": "whole", "budget_bytes": 8 * 10**9, "expected_s": 14.6, "steps": 5, "unknown": [],
        "models": [1], "moving": 2, "problem": "",
    }  # fmt: skip
    assert summary(whole) == "fits in 8.00 GB: 14.6 s, 2 models move"
    assert summary({**whole, "moving": 1, "unknown": ["x"]}) == "fits in 8.00 GB: 14.6 s and what is new, 1 model moves"
    assert summary({**whole, "fits": "no", "problem": "too large."}) == "does not fit in 8.00 GB: too large."
