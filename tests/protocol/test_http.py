"""The HTTP API: runs, events, artifacts, workflows, files; and every answer as the OpenAPI document promises it."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import pytest_asyncio

from tests.protocol.live import LiveServer, chain, two, workflow
from web.routes import TABLE
from web.routes.openapi import document as openapi_document

pytestmark = pytest.mark.asyncio
OPENAPI = openapi_document(TABLE)


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


def conforms(operation: tuple[str, str], status: int, body: Any) -> None:
    """`body` is what the OpenAPI document says of this operation and status."""
    path, method = operation
    replies = OPENAPI["paths"][f"/api/v1{path}"][method]["responses"]
    reply = replies.get(str(status)) or OPENAPI["components"]["responses"]["Error"]
    schema = {**reply["content"]["application/json"]["schema"], "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)


async def take(response: aiohttp.ClientResponse, operation: tuple[str, str], status: int) -> Any:
    body = await response.json()
    assert response.status == status, body
    conforms(operation, status, body)
    return body


async def test_every_route_is_in_the_openapi_document(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.get("openapi.json") as response:
        served = await response.json()
    assert served == json.loads(json.dumps(OPENAPI))
    registered = set()
    for route in live.server._runner.app.router.routes():  # type: ignore[union-attr]
        if route.method != "HEAD":
            assert route.resource is not None
            registered.add((route.resource.canonical, route.method.lower()))
    described = {(path, method) for path, methods in served["paths"].items() for method in methods}
    assert registered == described
    names = [operation["operationId"] for methods in served["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for schema in served["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_submit_and_wait(http: aiohttp.ClientSession) -> None:
    body = {"document": two(), "values": {"a.value": "over HTTP"}, "name": "named"}
    async with http.post("runs?wait_s=10&client=me", json=body) as response:
        run = await take(response, ("/runs", "post"), 200)
        assert response.headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert (run["result"], run["name"], run["client"]) == ({"out": {"value": "over HTTP"}}, "named", "me")
    async with http.get("runs?client=me&limit=5") as response:
        assert (await take(response, ("/runs", "get"), 200))["runs"][0]["id"] == run["id"]
    async with http.get(f"runs/{run['id']}/document") as response:
        ran = await take(response, ("/runs/{id}/document", "get"), 200)
    assert ran["nodes"]["a"]["values"] == {"value": "over HTTP"}


async def test_submit_wait_too_short_look_and_cancel(http: aiohttp.ClientSession) -> None:
    body = {"document": workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"])}
    async with http.post("runs?wait_s=0.05", json=body) as response:
        run = await take(response, ("/runs", "post"), 202)
    async with http.get(f"runs/{run['id']}") as response:
        assert (await take(response, ("/runs/{id}", "get"), 200))["status"] == "running"
    async with http.post(f"runs/{run['id']}/cancel") as response:
        assert await take(response, ("/runs/{id}/cancel", "post"), 200) == {"cancelled": True}
    async with http.get(f"runs/{run['id']}?wait_s=5") as response:
        assert (await take(response, ("/runs/{id}", "get"), 200))["status"] == "cancelled"
    async with http.delete(f"runs/{run['id']}") as response:
        assert await take(response, ("/runs/{id}", "delete"), 200) == {"cancelled": False}
    async with http.get("runs/nobody") as response:
        assert (await take(response, ("/runs/{id}", "get"), 404))["error"]["code"] == "unknown_run"


async def test_events_as_a_list(http: aiohttp.ClientSession) -> None:
    async with http.post("runs?wait_s=10", json={"document": chain(20, 9)}) as response:
        run = await response.json()
    operation = ("/runs/{id}/events", "get")
    async with http.get(f"runs/{run['id']}/events") as response:
        whole = await take(response, operation, 200)
    assert whole["finished"]
    assert whole["events"][-1]["type"] == "finished"
    async with http.get(f"runs/{run['id']}/events?after={whole['events'][4]['seq']}") as response:
        assert (await take(response, operation, 200))["events"] == whole["events"][5:]
    async with http.post(
        "runs", json={"document": workflow({"w": ("trial.wait", {"seconds": 0.3})}, ["w"])}
    ) as response:
        slow = await response.json()
    seen, after = [], 0
    while not seen or seen[-1]["type"] != "finished":
        async with http.get(f"runs/{slow['id']}/events?after={after}&wait_s=5") as response:
            page = await take(response, operation, 200)
        seen += page["events"]
        after = page["last"]
    assert seen[0]["type"] == "queued"
    async with http.get("runs/nobody/events") as response:
        await take(response, operation, 404)


async def test_events_as_a_stream_with_resume(http: aiohttp.ClientSession) -> None:
    body = {"document": workflow({"c": ("trial.chunks", {"count": 20, "pause_s": 0.005})}, ["c"])}
    async with http.post("runs", json=body) as response:
        run = (await response.json())["id"]

    async def read(**headers: str) -> list[tuple[int, dict[str, Any]]]:
        found = []
        async with http.get(f"runs/{run}/events", headers={"Accept": "text/event-stream", **headers}) as response:
            assert response.content_type == "text/event-stream"
            async for block in response.content.iter_any():
                found.append(block)
        parsed = []
        for entry in b"".join(found).decode().strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in entry.split("\n"))
            parsed.append((int(fields["id"]), json.loads(fields["data"])))
        return parsed

    whole = await read()
    assert [id for id, _ in whole] == [event["seq"] for _, event in whole]
    assert whole[-1][1]["type"] == "finished"
    assert "".join(event["text"] for _, event in whole if event["type"] == "chunk").startswith("word0 word1 ")
    assert await read(**{"Last-Event-ID": str(whole[9][0])}) == whole[10:]
    async with http.get("runs/nobody/events", headers={"Accept": "text/event-stream"}) as response:
        assert response.status == 404


async def test_artifacts(live: LiveServer, http: aiohttp.ClientSession) -> None:
    body = {"document": workflow({"p": ("trial.picture", {"side": 4}), "l": "trial.large"}, ["p", "l"])}
    async with http.post("runs?wait_s=10", json=body) as response:
        result = (await response.json())["result"]
    picture, text = result["p"]["image"], result["l"]["text"]
    async with http.get(f"artifacts/{picture['artifact']}/{picture['port']}") as response:
        assert response.content_type == "application/octet-stream"
        assert await response.read() == live.do(live.engine.artifact_bytes(picture["artifact"], 0))
    async with http.get(f"artifacts/{picture['artifact']}/0?format=json") as response:
        value = (await response.json())["value"]
    assert (value["dtype"], value["shape"], value["data"][0][0][0]) == ("float32", [1, 4, 4, 3], [0.5, 0.5, 0.5])
    async with http.get(f"artifacts/{text['artifact']}/0?format=json") as response:
        assert len((await response.json())["value"]) == 200_000
    for wrong in ("nobody/0", f"{picture['artifact']}/9", f"{picture['artifact']}/x", "..%2f..%2fetc/0"):
        async with http.get(f"artifacts/{wrong}") as response:
            assert response.status == 404, wrong


async def test_nodes_models_and_system(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.get("nodes") as response:
        nodes = await take(response, ("/nodes", "get"), 200)
    assert len(nodes["nodes"]) == len(live.engine.registry)
    async with http.get("nodes/trial.add") as response:
        assert (await take(response, ("/nodes/{id}", "get"), 200))["id"] == "trial.add"
    async with http.get("nodes/trial.nope") as response:
        await take(response, ("/nodes/{id}", "get"), 404)
    folder = live.engine.settings.models_path / "family"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.safetensors").write_bytes(b"x" * 10)
    (folder / "old.bin").write_bytes(b"x" * 5)
    async with http.get("models") as response:
        models = await take(response, ("/models", "get"), 200)
    assert models["models"] == [
        {"name": "family/old.bin", "bytes": 5, "loadable": False},
        {"name": "family/tiny.safetensors", "bytes": 10, "loadable": True},
    ]
    async with http.get("system") as response:
        system = await take(response, ("/system", "get"), 200)
    assert system["server"]["limits"]["body_bytes"] == live.limits.body_bytes


async def test_saved_workflows(live: LiveServer, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    name = ("/documents/{name}", "put")
    async with http.put("documents/mine/first one", json={**two(), "title": "First"}) as response:
        assert await take(response, name, 201) == {"name": "mine/first one"}
    async with http.put("documents/mine/first one", json={**two(), "title": "Second"}) as response:
        await take(response, name, 200)
    async with http.get("documents") as response:
        listed = await take(response, ("/documents", "get"), 200)
    entry = next(entry for entry in listed["documents"] if entry["name"] == "mine/first one")
    assert (entry["title"], entry["writable"], entry["nodes"]) == ("Second", True, 2)
    async with http.get("documents/mine/first one") as response:
        assert (await take(response, ("/documents/{name}", "get"), 200))["title"] == "Second"
    async with http.post("runs?wait_s=10", json={"workflow": "mine/first one"}) as response:
        assert (await response.json())["status"] == "succeeded"
    async with http.post("documents/validate", json={"workflow": "mine/first one"}) as response:
        assert await take(response, ("/documents/validate", "post"), 200) == {"nodes": 2, "targets": ["out"]}
    async with http.put("documents/broken", json={"format": "anyloom", "version": 1, "nodes": []}) as response:
        await take(response, name, 422)
    for wrong in ("..%2fx", ".hidden", "a/../../x", "a//b", "x.", "%00", "a\\b", "x" * 200, "a/b/c/d/e"):
        async with http.put(f"documents/{wrong}", json=two()) as response:
            assert response.status in (403, 404, 405), wrong
    async with http.delete("documents/mine/first one") as response:
        await take(response, ("/documents/{name}", "delete"), 200)
    async with http.delete("documents/mine/first one") as response:
        await take(response, ("/documents/{name}", "delete"), 404)


async def test_shipped_workflows_are_read_only(live: LiveServer, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    library = live.server.house.library
    (tmp_path / "given.json").write_text(json.dumps({**two(), "title": "Given"}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "link.json").symlink_to("/etc/hostname")
    library.shipped = (*library.shipped, tmp_path)
    try:
        async with http.get("documents") as response:
            listed = {entry["name"]: entry for entry in (await take(response, ("/documents", "get"), 200))["documents"]}
        assert listed["given"]["writable"] is False
        assert "not valid JSON" in listed["broken"]["error"]
        assert "link" not in listed
        for call in (http.put("documents/given", json=two()), http.delete("documents/given")):
            async with call as response:
                assert (response.status, (await response.json())["error"]["code"]) == (403, "read_only")
        async with http.get("documents/link") as response:
            assert (await response.json())["error"]["code"] == "path_outside"
    finally:
        library.shipped = library.shipped[:-1]


async def test_upload_list_and_fetch(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async def upload(name: str, content: bytes) -> dict[str, Any]:
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("file", content, filename=name, content_type="image/png")
        async with http.post("files", data=form) as response:
            return (await take(response, ("/files", "post"), 201))["files"][0]  # type: ignore[no-any-return]

    content = bytes(range(256)) * 4
    assert await upload("cat.png", content) == {
        "folder": "input", "name": "cat.png", "media_type": "image/png", "bytes": 1024, "existing": False,
    }  # fmt: skip
    assert (await upload("cat.png", content))["existing"] is True
    assert (await upload("cat.png", content + b"2"))["name"] == "cat (1).png"
    assert (await upload("cat.png", content + b"2"))["name"] == "cat (1).png"
    assert (await upload("cat.png", content + b"3"))["name"] == "cat (2).png"
    assert (await upload("../../etc/x y.png", b"1"))["name"] == "x y.png"
    assert (await upload("C:\\temp\\dog.png", b"1"))["name"] == "dog.png"
    assert (await upload("...", b"1"))["name"] == "upload"
    assert (await upload("画" * 200 + ".png", b"1"))["name"] == "画" * 50 + ".png"
    async with http.get("files/input?limit=2") as response:
        assert len((await take(response, ("/files/{folder}", "get"), 200))["files"]) == 2
    async with http.get("files/input/cat.png") as response:
        assert (await response.read(), response.content_type) == (content, "image/png")
    async with http.get("files/input/cat.png", headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, content[10:20])
    async with http.get("files/input/cat.png", headers={"Range": "bytes=5000-"}) as response:
        assert response.status == 416
    async with http.head("files/input/cat.png") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, "1024")
    async with http.get("files/elsewhere") as response:
        await take(response, ("/files/{folder}", "get"), 404)


async def test_two_uploads_of_one_name_at_once(http: aiohttp.ClientSession) -> None:
    async def upload(content: bytes) -> str:
        form = aiohttp.FormData()
        form.add_field("file", content, filename="race.bin")
        async with http.post("files", data=form) as response:
            name: str = (await response.json())["files"][0]["name"]
        async with http.get(f"files/input/{name}") as response:
            assert await response.read() == content
        return name

    names = await asyncio.gather(*(upload(bytes([number]) * 1000) for number in range(20)))
    assert len(set(names)) == 20


async def test_uploads_that_are_none(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async def refused(code: str, status: int, **sent: Any) -> None:
        async with http.post("files", **sent) as response:
            body = await take(response, ("/files", "post"), status)
            assert body["error"]["code"] == code

    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(b"x" * (live.limits.upload_bytes + 1)), filename="big.bin")
    await refused("too_large", 413, data=form)
    await refused("no_file", 400, data=aiohttp.FormData([("a", "b")], default_to_multipart=True))
    await refused("unsupported_media_type", 415, json={})
    await refused("bad_multipart", 400, data=b"garbage", headers={"Content-Type": "multipart/form-data; boundary=x"})
    await refused("bad_multipart", 400, data=b"garbage", headers={"Content-Type": "multipart/form-data"})
    nul = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\0b.png"\r\n\r\nabc\r\n--x--\r\n'
    await refused("bad_multipart", 400, data=nul, headers={"Content-Type": "multipart/form-data; boundary=x"})
    half = b'--x\r\nContent-Disposition: form-data; name="file"; filename="half.png"\r\n\r\nabc'
    await refused("bad_multipart", 400, data=half, headers={"Content-Type": "multipart/form-data; boundary=x"})
    await asyncio.sleep(0.3)  # what was not sent is given up behind aiohttp's back; the loop has to live to see it
    assert not [
        path for path in live.engine.folders.roots["input"].iterdir() if path.name.startswith((".", "half", "big"))
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing", 404, "not_found"),
        ("PATCH", "runs", 405, "no_such_method"),
        ("GET", "runs?limit=many", 400, "bad_parameter"),
        ("GET", "runs?limit=0", 400, "bad_parameter"),
        ("GET", "runs?limit=99999999999999999999", 400, "bad_parameter"),
        ("GET", "runs?status=odd", 400, "bad_parameter"),
        ("GET", "runs?before=-1", 400, "bad_parameter"),
        ("GET", "runs/x?wait_s=nan", 400, "bad_parameter"),
        ("GET", "runs/x/events?after=x", 400, "bad_parameter"),
        ("GET", "documents/nobody", 404, "unknown_workflow"),
    ],
)
async def test_requests_that_are_none(
    http: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with http.request(method, path, json={} if method == "PATCH" else None) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, code)
        assert error["message"]
        assert error["remedy"]


async def test_the_front_page_and_its_files(live: LiveServer) -> None:
    async with aiohttp.ClientSession(live.url) as session:
        async with session.get("/status") as response:
            page = await response.text()
        assert response.content_type == "text/html"
        for path in ("/static/home.css", "/static/home.js", "/static/icon.svg"):
            assert path in page
            async with session.get(path) as response:
                assert response.status == 200
        async with session.get("/static/home.html") as response:
            assert response.status == 404


async def test_the_editor_and_its_parts(live: LiveServer) -> None:
    """Where it was not built, the plain page is the front page; its parts are found by name and nothing else is."""
    async with aiohttp.ClientSession(live.url) as session:
        async with session.get("/") as response:
            page = await response.text()
        assert response.status == 200 and response.content_type == "text/html"
        for part in re.findall(r"/assets/[^\"]+", page):
            async with session.get(part) as response:
                assert response.status == 200 and "immutable" in response.headers["Cache-Control"], part
                assert response.content_type in ("text/javascript", "text/css")
        for name in ("index.html", "%2e%2e%2findex.html", "..%2Fstamp.txt", "none.js", ".js", "a%00.js"):
            async with session.get(f"/assets/{name}") as response:
                assert response.status == 404, name


async def test_the_workflow_in_a_file(live: LiveServer) -> None:
    nodes = {
        "boat": {"type": "media.solid_image", "values": {"width": 8, "height": 8}},
        "save": {"type": "media.save_image", "values": {"name": "carrier"}, "links": {"image": "boat.image"}},
    }
    async with aiohttp.ClientSession(live.url) as session:
        body = {"document": {"format": "anyloom", "version": 1, "nodes": nodes}}
        async with session.post("/api/v1/runs?wait_s=60", json=body) as response:
            name = (await response.json())["result"]["save"]["file"][0]["file"]["name"]
        async with session.get(f"/api/v1/embedded/output/{name}") as response:
            assert (await response.json())["document"]["nodes"] == nodes
        form = aiohttp.FormData()
        form.add_field("file", b"hello", filename="plain.txt")
        async with session.post("/api/v1/files", data=form):
            pass
        for path, code in (("input/plain.txt", "no_workflow"), ("output/none.png", "file_not_found")):
            async with session.get(f"/api/v1/embedded/{path}") as response:
                assert response.status == 404 and (await response.json())["error"]["code"] == code


async def test_a_mistake_of_the_server_is_an_id_and_no_traceback(
    live: LiveServer, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(live.engine, "system", broken)
    async with http.get("system") as response:
        assert response.status == 500
        text = await response.text()
    assert "secret" not in text
    assert "Traceback" not in text
    id = json.loads(text)["error"]["message"].partition("id ")[2][:8]
    assert any(id in record.getMessage() and record.exc_info for record in caplog.records)
