"""Every operation of the websocket, in both encodings."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.protocol.live import LiveServer, chain, two, workflow
from tests.protocol.wire import PROTOCOLS, Wire, wire
from web.operations import OPERATIONS

pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("protocol", PROTOCOLS)]


async def test_hello_names_the_server_and_its_limits(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        found = await socket.ask("hello", client="tester")
    assert (found["server"], found["encoding"], found["client"]) == ("anyloom", protocol, "tester")
    assert set(found["operations"]) == set(OPERATIONS)
    assert found["limits"]["body_bytes"] > 0


async def test_ping_and_system(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        assert (await socket.ask("ping"))["time"] > 0
        assert (await socket.ask("system"))["server"]["sockets"] >= 1


async def test_saved_workflows_are_listed_loaded_and_run_by_name(live: LiveServer, protocol: str) -> None:
    asks = [{"node": "a", "input": "value", "label": "Text"}]
    live.server.house.library.save("trials/two", {**two("saved"), "title": "Two", "asks": asks})
    async with wire(live.url, protocol) as socket:
        entry = next(entry for entry in (await socket.ask("workflows"))["workflows"] if entry["name"] == "trials/two")
        assert entry["title"] == "Two"
        assert entry["asks"][0] == {
            "node": "a", "input": "value", "label": "Text", "description": "", "type": "trial.echo", "value": "saved",
        }  # fmt: skip
        assert (await socket.ask("workflow", name="trials/two"))["nodes"]["a"]["values"] == {"value": "saved"}
        run = await socket.ask("submit", workflow="trials/two", values={"a.value": "mine"}, watch=True)
        await socket.events(run["id"])
        assert (await socket.ask("run", run=run["id"]))["result"] == {"out": {"value": "mine"}}
        assert (await socket.refused("workflow", name="trials/tow"))["remedy"] == "Did you mean 'trials/two'?"


async def test_nodes_all_and_one(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        ids = [type["id"] for type in (await socket.ask("nodes"))["nodes"]]
        assert "trial.echo" in ids
        one = await socket.ask("nodes", node="trial.add")
        assert [port["name"] for port in one["inputs"]] == ["a", "b"]
        assert (await socket.refused("nodes", node="trial.ad"))["code"] == "unknown_node"


async def test_validate(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        assert await socket.ask("validate", document=chain(5)) == {"nodes": 5, "targets": ["n4"]}
        error = await socket.refused("validate", document=workflow({"a": "no.such", "b": "nor.this"}))
        assert [(problem["code"], problem["node"]) for problem in error["problems"]] == [
            ("unknown_node", "a"),
            ("unknown_node", "b"),
        ]


async def test_a_field_that_is_not_there_is_refused_by_name(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        for op in ("submit", "validate", "plan"):
            error = await socket.refused(op, document=two(), value={"a.value": "lost"})
            assert (error["code"], error["place"], error["remedy"]) == (
                "unknown_field",
                "/value",
                "Did you mean 'values'?",
            )
        assert (await socket.refused("validate", document=two(), watch=True))["place"] == "/watch"
        assert "id" not in (await socket.refused("submit", document=two(), idd=1))["remedy"].split(), (
            "of the frame only"
        )


async def test_submit_watch_and_result(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        run = await socket.ask("submit", document=two(), name="greeting", priority=3, watch=True)
        assert (run["name"], run["priority"]) == ("greeting", 3)
        events = await socket.events(run["id"])
        assert events[0]["type"] == "queued"
        assert [event["type"] for event in events if event.get("node") == "out"] == ["running", "done", "output"]
        numbers = [event["seq"] for event in events]
        assert numbers == sorted(set(numbers))
        assert events[-1]["status"] == "succeeded"
        record = await socket.ask("run", run=run["id"])
        assert (record["status"], record["result"]) == ("succeeded", {"out": {"value": "hello"}})


async def test_targets_and_values(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        values = {"n0.a": 7}
        run = await socket.ask("submit", document=chain(9), values=values, targets=["n3"], watch=True)
        await socket.events(run["id"])
        assert (await socket.ask("run", run=run["id"]))["result"] == {"n3": {"int": 11}}


async def test_runs_are_listed_in_pages(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        await socket.ask("hello", client=f"pager-{protocol}")
        ids = []
        for number in range(5):
            run = await socket.ask("submit", document=two(str(number)), watch=True)
            await socket.events(run["id"])
            ids.append(run["id"])
        first = (await socket.ask("runs", client=f"pager-{protocol}", limit=3))["runs"]
        rest = (await socket.ask("runs", client=f"pager-{protocol}", limit=3, before=first[-1]["number"]))["runs"]
        assert [run["id"] for run in first + rest] == ids[::-1]
        assert not (await socket.ask("runs", client=f"pager-{protocol}", status="failed"))["runs"]
        assert (await socket.refused("runs", status="odd"))["place"] == "/status"


async def test_cancel(live: LiveServer, protocol: str) -> None:
    document = workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"])
    async with wire(live.url, protocol) as socket:
        run = await socket.ask("submit", document=document, watch=True)
        assert await socket.ask("cancel", run=run["id"]) == {"cancelled": True}
        assert (await socket.events(run["id"]))[-1]["status"] == "cancelled"
        assert await socket.ask("cancel", run=run["id"]) == {"cancelled": False}
        assert (await socket.refused("cancel", run="nobody"))["code"] == "unknown_run"


async def test_fetch_an_artifact_and_a_file_in_pieces(live: LiveServer, protocol: str) -> None:
    content = bytes(range(256)) * 10_000  # 2.56 MB: three pieces
    (live.engine.folders.roots["output"] / "big.bin").write_bytes(content)
    async with wire(live.url, protocol) as socket:
        pieces = await fetch(socket, file={"folder": "output", "name": "big.bin"})
        assert len(pieces) == 3
        assert b"".join(pieces) == content
        assert (
            b"".join(await fetch(socket, file={"folder": "output", "name": "big.bin"}, offset=2_500_000))
            == content[2_500_000:]
        )

        run = await socket.ask("submit", document=workflow({"p": "trial.picture"}, ["p"]), watch=True)
        await socket.events(run["id"])
        value = (await socket.ask("run", run=run["id"]))["result"]["p"]["image"]
        assert value["kind"] == "IMAGE"
        encoded = b"".join(await fetch(socket, artifact=value["artifact"], port=value["port"]))
        assert encoded == live.do(live.engine.artifact_bytes(value["artifact"], value["port"]))
        for wrong in ({"artifact": "nope"}, {"file": {"folder": "input", "name": "nope"}}, {"file": "x"}, {}):
            await socket.refused("fetch", **wrong)


async def fetch(socket: Wire, **what: object) -> list[bytes]:
    first = await socket.reply("fetch", **what)
    pieces, result = [], first["result"]
    while True:
        data = socket.data(result["data"])
        assert len(data) <= 1 << 20
        pieces.append(data)
        if not result["more"]:
            return pieces
        message = await socket.receive()
        assert message["id"] == first["id"]
        result = message["result"]


async def test_two_runs_on_one_socket_interleave(live: LiveServer, protocol: str) -> None:
    slow = workflow({"c": ("trial.chunks", {"count": 20, "pause_s": 0.01})}, ["c"])
    async with wire(live.url, protocol) as socket:
        first = await socket.ask("submit", document=slow, watch=True)
        second = await socket.ask("submit", document=slow, watch=True)
        order, ended = [], set()
        while len(ended) < 2:
            message = await socket.next()
            order.append(message["run"])
            if message["events"][-1]["type"] == "finished":
                ended.add(message["run"])
    changes = sum(before != after for before, after in itertools.pairwise(order))
    assert set(order) == {first["id"], second["id"]}
    assert changes > 4


async def test_resume_after_a_gap_gives_every_later_state_event(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        run = await socket.ask("submit", document=chain(50, 1), watch=True)
        whole = await socket.events(run["id"])
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        async with wire(live.url, protocol) as socket:
            await socket.ask("watch", run=run["id"], after=whole[cut]["seq"])
            if cut < len(whole) - 1:
                assert await socket.events(run["id"]) == whole[cut + 1 :]


async def test_drop_in_the_middle_and_resume(live: LiveServer, protocol: str) -> None:
    document = workflow({"c": ("trial.chunks", {"count": 40, "pause_s": 0.01})}, ["c"])
    async with wire(live.url, protocol) as socket:
        run = await socket.ask("submit", document=document, watch=True)
        seen = (await socket.next())["events"]
        assert socket.socket._response.connection is not None
        socket.socket._response.connection.transport.abort()  # type: ignore[union-attr]
    async with wire(live.url, protocol) as socket:
        await socket.ask("watch", run=run["id"], after=seen[-1]["seq"])
        seen += await socket.events(run["id"])
    text = "".join(event["text"] for event in seen if event["type"] == "chunk")
    assert text == "".join(f"word{number} " for number in range(40))
    assert [event["seq"] for event in seen] == sorted({event["seq"] for event in seen})


async def test_unwatch_and_tags(live: LiveServer, protocol: str) -> None:
    document = workflow({"w": ("trial.wait", {"seconds": 0.3})}, ["w"])
    async with wire(live.url, protocol) as socket:
        run = (await socket.ask("submit", document=document))["id"]
        await socket.ask("watch", run=run)
        await socket.ask("watch", run=run, tag="b")
        assert await socket.ask("unwatch", run=run) == {"unwatched": True}
        assert await socket.ask("unwatch", run=run) == {"unwatched": False}
        tagged: list[dict[str, object]] = []
        while not tagged or tagged[-1]["type"] != "finished":
            message = await socket.next()
            if message.get("tag") == "b":
                tagged += message["events"]
        assert tagged[0]["type"] == "queued"
        assert (await socket.refused("watch", run="nobody"))["code"] == "unknown_run"


async def test_requests_are_answered_side_by_side(live: LiveServer, protocol: str) -> None:
    """A workflow of 10,000 nodes is being checked; a ping behind it is not kept waiting."""
    async with wire(live.url, protocol) as socket:
        await socket.send({"op": "validate", "id": "slow", "document": chain(10_000, 5)})
        await socket.send({"op": "ping", "id": "quick"})
        first = await socket.receive()
        second = await socket.receive(30)
    assert (first["id"], second["id"]) == ("quick", "slow")
    assert second["result"]["nodes"] == 10_000


async def test_many_pipelined_submits(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        for number in range(300):
            await socket.send({"op": "submit", "id": number, "document": two(f"p{number}"), "watch": True})
        ended: dict[str, str] = {}
        replies: dict[int, str] = {}
        while len(ended) < 300:
            message = await socket.receive(20)
            if "ok" in message:
                replies[message["id"]] = message["result"]["id"]
            elif message["events"][-1]["type"] == "finished":
                ended[message["run"]] = message["events"][-1]["status"]
    assert len(replies) == len(set(replies.values())) == 300
    assert set(ended.values()) == {"succeeded"}


async def test_a_run_that_was_submitted_goes_on_without_its_client(live: LiveServer, protocol: str) -> None:
    document = workflow({"w": ("trial.wait", {"seconds": 0.2})}, ["w"])
    async with wire(live.url, protocol) as socket:
        run = (await socket.ask("submit", document=document, watch=True))["id"]
    await asyncio.sleep(0.1)
    assert live.do(live.engine.wait(run, 5)).status == "succeeded"
