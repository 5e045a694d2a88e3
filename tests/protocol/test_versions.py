"""Two windows, one workflow: nothing is lost, and everything can be had back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.errors import RequestError
from tests.protocol.live import LiveServer, two
from tests.protocol.test_http import take
from web import versions
from web.library import Library

pytestmark = pytest.mark.asyncio
DOCUMENT = "/documents/{name}"
VERSIONS = "/versions/{name}"


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


def titled(title: str) -> dict[str, Any]:
    return {**two(), "title": title}


async def put(http: aiohttp.ClientSession, name: str, title: str, status: int, **headers: str) -> str:
    """The ETag of what is there afterwards."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    async with http.put(f"documents/{name}", json=titled(title), headers=named) as response:
        body = await take(response, (DOCUMENT, "put"), status)
        if status == 412:
            assert body["error"]["code"] == "changed"
            assert body["error"]["remedy"]
        return response.headers.get("ETag", "")


async def title_of(http: aiohttp.ClientSession, name: str) -> tuple[str, str]:
    async with http.get(f"documents/{name}") as response:
        return (await take(response, (DOCUMENT, "get"), 200))["title"], response.headers["ETag"]


async def test_the_second_of_two_windows_is_told(http: aiohttp.ClientSession) -> None:
    first = await put(http, "shared/flow", "one", 201, If_None_Match="*")
    assert await title_of(http, "shared/flow") == ("one", first)
    second = await put(http, "shared/flow", "two", 200, If_Match=first)
    assert second != first
    await put(http, "shared/flow", "three", 412, If_Match=first)
    await put(http, "shared/flow", "three", 412, If_None_Match="*")
    await put(http, "shared/flow", "three", 412, If_Match='""')
    assert await title_of(http, "shared/flow") == ("two", second)
    await put(http, "shared/flow", "four", 200, If_Match="*")
    await put(http, "shared/flow", "five", 200)
    async with http.delete("documents/shared/flow", headers={"If-Match": second}) as response:
        await take(response, (DOCUMENT, "delete"), 412)
    await put(http, "shared/none", "six", 412, If_Match=second)


async def test_of_many_writers_at_once_one_wins(http: aiohttp.ClientSession) -> None:
    etag = await put(http, "race", "start", 201)

    async def write(number: int) -> int:
        async with http.put("documents/race", json=titled(str(number)), headers={"If-Match": etag}) as response:
            return response.status

    statuses = await asyncio.gather(*(write(number) for number in range(12)))
    assert sorted(statuses) == [200] + [412] * 11


async def test_every_former_state_can_be_had_back(http: aiohttp.ClientSession) -> None:
    for title in ("first", "second", "third"):
        await put(http, "kept/flow", title, 201 if title == "first" else 200)
    async with http.get("versions/kept/flow") as response:
        listed = (await take(response, (VERSIONS, "get"), 200))["versions"]
    assert len(listed) == 2
    assert listed[0]["replaced"] >= listed[1]["replaced"]
    titles = []
    for entry in listed:
        async with http.get(f"versions/kept/flow?version={entry['id']}") as response:
            titles.append((await take(response, (VERSIONS, "get"), 200))["title"])
    assert titles == ["second", "first"]
    async with http.post(f"versions/kept/flow?version={listed[1]['id']}") as response:
        assert await take(response, (VERSIONS, "post"), 200) == {"name": "kept/flow"}
        etag = response.headers["ETag"]
    assert await title_of(http, "kept/flow") == ("first", etag)
    async with http.delete("documents/kept/flow") as response:
        await take(response, (DOCUMENT, "delete"), 200)
    async with http.get("versions/kept/flow") as response:
        listed = (await take(response, (VERSIONS, "get"), 200))["versions"]
    assert listed[0]["etag"] == etag.strip('"')
    async with http.post(f"versions/kept/flow?version={listed[0]['id']}") as response:
        await take(response, (VERSIONS, "post"), 200)
    assert (await title_of(http, "kept/flow"))[0] == "first"
    async with http.get("documents") as response:
        names = [entry["name"] for entry in (await response.json())["documents"]]
    assert not [name for name in names if "versions" in name]


@pytest.mark.parametrize("id", ["", "x", "../../first", "20261129T150000.000000Z-0123456789abcdef", "..%2f..%2fx"])
async def test_versions_that_are_none(http: aiohttp.ClientSession, id: str) -> None:
    for method in ("get", "post"):
        async with http.request(method, f"versions/kept/flow?version={id}") as response:
            assert (await take(response, (VERSIONS, method), 404))["error"]["code"] == "unknown_version"
    for name in ("..%2fx", ".versions/x", "a/../../x", "x" * 200):
        async with http.get(f"versions/{name}") as response:
            assert response.status in (403, 404), name


async def test_versions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "KEPT", 5)
    library = Library(tmp_path)
    for number in range(9):
        library.save("flow", titled(f"t{number}"))
        library.save("flow", titled(f"t{number}"))  # the same again is no news
    kept = library.versions("flow")
    assert [library.version("flow", entry.id)["title"] for entry in kept] == ["t7", "t6", "t5", "t4", "t3"]
    monkeypatch.setattr(versions, "KEPT_BYTES", kept[0].bytes)
    library.save("flow", titled("t9"))
    assert [library.version("flow", entry.id)["title"] for entry in library.versions("flow")] == ["t8"]
    with pytest.raises(RequestError):
        library.save("flow", titled("x"), expected="0" * 16)
    assert library.load("flow")["title"] == "t9"
