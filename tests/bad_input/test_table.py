"""Bad input, a row each: it ends in an error with code, place, reason and remedy, and the server goes on."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import msgpack
import pytest

from tests.bad_input.door import (
    Door,
    Error,
    Row,
    broken_msgpack,
    document,
    drops_in_the_middle,
    huge,
    huge_in_pieces,
    load,
    nested,
    oversized_frame,
    stops_reading,
)
from tests.protocol.live import LiveServer, two, workflow
from tests.protocol.wire import wire

CYCLE = {
    "free": "trial.add",
    "a": ("trial.add", {}, {"a": "b.int"}),
    "b": ("trial.add", {}, {"a": "c.int"}),
    "c": ("trial.add", {}, {"a": "a.int", "b": "free.int"}),
}
TABLE = [
    Row("unknown node", document({"a": "trial.ecko"}, ["a"]), "unknown_node", "a", says=("trial.ecko", "trial.echo")),
    Row("missing input", document({"s": "trial.show"}, ["s"]), "missing_input", "s", "value"),
    Row(
        "wrong kind of a link",
        document({"p": "trial.picture", "a": ("trial.add", {}, {"b": "p.image"})}, ["a"]),
        "wrong_kind",
        "a",
        "b",
        ("IMAGE", "INT", "p.image"),
    ),
    Row(
        "wrong kind of a value", document({"a": ("trial.add", {"a": "six"})}, ["a"]), "wrong_value", "a", "a", ("six",)
    ),
    Row("cycle", document(CYCLE, ["a"]), "cycle", says=("a", "b", "c", "->")),
    Row("loop to itself", document({"a": ("trial.add", {}, {"a": "a.int"})}, ["a"]), "cycle", "a"),
    Row(
        "value out of range",
        document({"a": ("trial.add", {"a": -1})}, ["a"]),
        "out_of_range",
        "a",
        "a",
        ("-1", "0..100000"),
    ),
    Row("unknown input", document({"a": ("trial.add", {"x": 1})}, ["a"]), "unknown_port", "a", "x", ("a, b",)),
    Row(
        "unknown output",
        document({"a": "trial.add", "b": ("trial.add", {}, {"a": "a.out"})}, ["b"]),
        "unknown_port",
        "b",
        "a",
        ("out", "int"),
    ),
    Row(
        "link to nowhere",
        document({"b": ("trial.add", {}, {"a": "ghost.int"})}, ["b"]),
        "unknown_link",
        "b",
        "a",
        ("ghost",),
    ),
    Row(
        "unknown override",
        lambda door: door.submit(two(), values={"ghost.value": 1}),
        "unknown_override",
        says=("ghost",),
    ),
    Row("unknown target", lambda door: door.submit(two(), targets=["ghost"]), "unknown_target", says=("ghost",)),
    Row("no nodes", document({}, []), "no_targets"),
    Row("50 MB JSON", huge, "too_large", says=("limit", "files")),
    Row("50 MB JSON in pieces", huge_in_pieces, "too_large", says=("limit",)),
    Row("deep nesting", nested(200), "too_deep"),
    Row("very deep nesting", nested(200_000), "too_deep"),
    Row(
        "deep values", lambda door: door.submit(two(), values={"a.value": json.loads("[" * 90 + "]" * 90)}), "too_deep"
    ),
    Row("NaN", lambda door: door.post(b'{"document": {"x": NaN}}'), "not_finite", says=("NaN",)),
    Row("number without end", lambda door: door.post(b'{"document": {"x": 1e999}}'), "not_finite"),
    Row("half a surrogate pair", lambda door: door.submit(two("\ud800")), "bad_text"),
    Row("no JSON", lambda door: door.post(b'{"document": {'), "bad_json", says=("line 1",)),
    Row("no UTF-8", lambda door: door.post(b'{"document": "\xff"}'), "bad_json"),
    Row("empty body", lambda door: door.post(b""), "bad_json"),
    Row("a list", lambda door: door.post(b"[]"), "bad_field"),
    Row("no document", lambda door: door.post(b"{}"), "no_document"),
    Row(
        "a field that is not there",
        lambda door: door.submit(two(), value={"a.value": "lost"}),
        "unknown_field",
        says=("'value'", "'values'"),
    ),
    Row(
        "a field that is like none",
        lambda door: door.submit(two(), zzz=1),
        "unknown_field",
        says=("'zzz'", "document", "breakpoints"),
    ),
    Row("a field of endless name", lambda door: door.submit(two(), **{"x" * 10**6: 1}), "unknown_field"),
    Row(
        "a ComfyUI workflow",
        lambda door: door.submit({"1": {"class_type": "KSampler", "inputs": {}}}),
        "foreign_format",
    ),
    Row("a workflow of the future", lambda door: door.submit({**two(), "version": 99}), "future_version"),
    Row("unknown workflow", lambda door: door.post(b'{"workflow": "ghost"}'), "unknown_workflow", says=("ghost",)),
    Row("workflow outside", lambda door: door.post(b'{"workflow": "../ghost"}'), "bad_name"),
    Row("truncated PNG", load("image", "cut.png"), "damaged_file", "load", "file", ("cut.png",)),
    Row("truncated WAV", load("audio", "cut.wav"), "damaged_file", "load", "file", ("cut.wav",)),
    Row("truncated MP4", load("video", "cut.mp4"), "damaged_file", "load", "file", ("cut.mp4",)),
    Row("zero-length audio", load("audio", "zero.wav"), "empty_audio", "load", "file", ("zero.wav",)),
    Row("sound for a picture", load("image", "whole.wav"), "unknown_format", "load", "file"),
    Row("missing file", load("image", "ghost.png"), "file_not_found", "load", says=("ghost.png",)),
    Row("path outside", load("image", "../../etc/passwd"), "path_outside", "load", says=("outside",)),
    Row("absolute path", load("audio", "/etc/passwd"), "path_outside", "load"),
    Row(
        "unknown model",
        document({"m": ("trial.model", {"family": "ghost"})}, ["m"]),
        "unknown_model",
        "m",
        says=("ghost",),
    ),
    Row("a node that gives a wrong value", document({"n": "trial.nan"}, ["n"]), "wrong_output", "n", "float", ("nan",)),
    Row(
        "a node that refuses",
        document({"f": ("trial.fail", {"message": "never"})}, ["f"]),
        "node_failed",
        "f",
        "message",
        ("never",),
    ),
    Row(
        "a node with a bug",
        document({"c": "trial.crash"}, ["c"]),
        "node_raised",
        "c",
        says=("ZeroDivisionError", "a bug"),
    ),
    Row("malformed JSON frame", lambda door: door.frame('{"op": "ping"'), "bad_json", says=("line 1",)),
    Row("malformed msgpack frame", broken_msgpack, "bad_msgpack"),
    Row("binary frame on a JSON socket", lambda door: door.frame(msgpack.packb({"op": "ping"})), "wrong_frame"),
    Row("oversized frame", oversized_frame, "too_large", says=("limit",)),
    Row("unknown op", lambda door: door.frame('{"op": "dance"}'), "unknown_op", says=("dance", "submit")),
    Row("client that stops reading", stops_reading, ""),
    Row("client that drops in the middle", drops_in_the_middle, ""),
]
NO_REMEDY = {"wrong_value", "node_raised"}
"""Codes whose message is all that can be said."""


@pytest.mark.asyncio
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_bad_input(live: LiveServer, row: Row) -> None:
    async with aiohttp.ClientSession(live.url) as http, wire(live.url) as socket:
        other = await socket.ask(
            "submit", document=workflow({"w": ("trial.wait", {"seconds": 0.05})}, ["w"]), watch=False
        )
        error = await row.bring(Door(live, http, socket))
        if row.code:
            assert error is not None
            check(row, error)

        run = await socket.ask("submit", document=two(row.name), watch=True)
        assert (await socket.events(run["id"]))[-1]["status"] == "succeeded"
        assert (await asyncio.to_thread(live.do, live.engine.wait(other["id"], 10))).status == "succeeded"
        async with http.get("/api/v1/system") as response:
            assert response.status == 200


def check(row: Row, error: Error) -> None:
    text = json.dumps(error, ensure_ascii=False)
    assert error["code"] == row.code, text
    assert error["message"], text
    assert error.get("remedy") or row.code in NO_REMEDY, text
    assert "Traceback" not in text
    if row.node:
        assert error.get("node") == row.node, text
    if row.port:
        assert error.get("port") == row.port, text
    for part in row.says:
        assert part in text
