"""Small pictures for lists: right, cheap to ask for again, and safe with files that are not what they say."""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import av
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from graph_engine.errors import AnyloomError
from nodes.media.video_file import read_video
from tests.protocol.live import LiveServer, two
from tests.protocol.test_http import OPENAPI, take
from web import thumbnails
from web.library import Library
from web.thumbnails import Thumbnails

pytestmark = pytest.mark.asyncio
MEDIA = Path(__file__).parents[2] / "workflows" / "media"


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


async def fetch(http: aiohttp.ClientSession, name: str, **query: int) -> tuple[Image.Image, str]:
    async with http.get(f"thumbnails/output/{name}", params=query) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "image/webp"
        return Image.open(io.BytesIO(await response.read())), response.headers["ETag"]


async def test_pictures_and_films(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["output"]
    Image.new("RGB", (400, 100), "#cc3300").save(folder / "wide.png")
    Image.new("RGBA", (100, 400), (0, 0, 0, 0)).save(folder / "clear.png")
    picture, etag = await fetch(http, "wide.png", size=64)
    assert picture.size == (64, 16)
    red, green, _ = picture.convert("RGB").getpixel((32, 8))  # type: ignore[misc]
    assert red > 180 > 80 > green
    assert (await fetch(http, "clear.png"))[0].mode == "RGBA"
    async with http.get("thumbnails/output/wide.png?size=64", headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    Image.new("RGB", (400, 200), "#0033cc").save(folder / "wide.png")
    assert (await fetch(http, "wide.png", size=64))[0].size == (64, 32), "the file is another one now"
    [film] = [path for path in MEDIA.iterdir() if path.suffix == ".mp4"][:1]
    (folder / "film.mp4").write_bytes(film.read_bytes())
    assert max((await fetch(http, "film.mp4", size=48))[0].size) == 48


async def test_deep_greys_and_turned_films_look_as_they_are(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["output"]
    Image.fromarray(np.full((8, 8), 32_768, np.uint16)).save(folder / "deep.png")
    assert (await fetch(http, "deep.png"))[0].convert("L").getpixel((4, 4)) in range(126, 131)
    with av.open(str(folder / "flat.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :32] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray((folder / "flat.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: how the picture is to be laid
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    (folder / "phone.mp4").write_bytes(data)
    small = (await fetch(http, "phone.mp4"))[0].convert("L")
    assert small.size == (48, 64)
    colours = read_video(folder / "phone.mp4")["frames"][0].mean(-1)
    for y in (8, 56):
        assert small.getpixel((24, y)) == pytest.approx(float(colours[y, 24]) * 255, abs=8)


async def test_pictures_and_films_that_no_browser_shows(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["output"]
    Image.new("RGB", (400, 100), "#cc3300").save(folder / "scan.tiff")
    Image.new("CMYK", (100, 50), (0, 255, 255, 0)).save(folder / "print.tif")
    Image.fromarray(np.full((8, 8), 32_768, np.uint16)).save(folder / "deep.tif")
    picture = (await fetch(http, "scan.tiff", size=64))[0]
    assert picture.size == (64, 16)
    assert picture.convert("RGB").getpixel((32, 8))[0] > 180  # type: ignore[index]
    red, green, blue = (await fetch(http, "print.tif"))[0].convert("RGB").getpixel((50, 25))  # type: ignore[misc]
    assert red > 180 > 80 > max(green, blue)
    assert (await fetch(http, "deep.tif"))[0].convert("L").getpixel((4, 4)) in range(126, 131)
    for name, codec in (("old.avi", "mpeg4"), ("old.wmv", "wmv2")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255, np.uint8), format="rgb24"))
            )
            container.mux(stream.encode(None))
        film = (await fetch(http, name, size=32))[0]
        assert film.size == (32, 24)
        assert film.convert("L").getpixel((16, 12)) > 240  # type: ignore[operator]


async def test_a_list_of_other_files_is_no_film(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["output"]
    [film] = [path for path in MEDIA.iterdir() if path.suffix == ".mp4"][:1]
    (folder / "secret.mp4").write_bytes(film.read_bytes())
    head = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
    for name, text in (
        ("list.mp4", f"{head}secret.mp4\n#EXT-X-ENDLIST\n"),
        ("list.avi", f"{head}secret.mp4\n#EXT-X-ENDLIST\n"),
        ("row.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("row.avi", "ffconcat version 1.0\nfile secret.mp4\n"),
    ):
        (folder / name).write_text(text)
        async with http.get(f"thumbnails/output/{name}") as response:
            assert (await response.json())["error"]["code"] == "damaged_file", name


@pytest.mark.parametrize("route", ["thumbnails", "playable"])
async def test_errors_say_no_folder_of_this_machine(live: LiveServer, http: aiohttp.ClientSession, route: str) -> None:
    root = live.engine.folders.roots["output"]
    for name in ("not.png", "not.mp4", "not.webm"):
        (root / name).write_bytes(b"nothing")
        async with http.get(f"{route}/output/{name}") as response:
            text = await response.text()
            assert response.status in (400, 422) and name in text
            assert str(root) not in text


async def test_what_has_no_small_picture(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["output"]
    for name in ("sound.wav", "page.html", "drawing.svg", "drawing.svgz", "text.txt"):
        (folder / name).write_bytes(b"<svg onload='alert(1)'/>")
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (folder / "damaged.mp4").write_bytes(b"x" * 500)
    for name, code in (
        ("sound.wav", "no_thumbnail"), ("page.html", "no_thumbnail"), ("drawing.svg", "no_thumbnail"),
        ("text.txt", "no_thumbnail"), ("drawing.svgz", "no_thumbnail"), ("none.png", "file_not_found"),
        ("damaged.png", "damaged_file"), ("damaged.mp4", "damaged_file"),
    ):  # fmt: skip
        async with http.get(f"thumbnails/output/{name}") as response:
            body = await take(response, ("/thumbnails/{folder}/{name}", "get"), response.status)
            assert (body["error"]["code"], response.status in (400, 404)) == (code, True), name
    for wrong in ("..%2f..%2fx.png", "%00.png"):
        async with http.get(f"thumbnails/output/{wrong}") as response:
            assert response.status in (403, 404)


async def test_large_pictures_are_refused_and_the_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Thumbnails()
    for number in range(6):
        Image.effect_noise((64, 64), 90).save(tmp_path / f"{number}.png")
    size = len((await made.of(tmp_path / "0.png", 64))[0])
    monkeypatch.setattr(thumbnails, "KEPT_BYTES", 3 * size)
    for number in range(6):
        await made.of(tmp_path / f"{number}.png", 64)
    assert made._bytes == sum(map(len, made._kept.values())) <= 3 * size
    assert len(made._kept) >= 1
    monkeypatch.setattr(thumbnails, "MAX_PIXELS", 1000)
    with pytest.raises(AnyloomError, match="64 x 64 pixels"):
        await Thumbnails().of(tmp_path / "0.png", 64)


async def test_the_list_of_workflows_names_their_pictures(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.save("with", {**two(), "ui": {"thumbnail": {"folder": "output", "name": "a.png", "more": 1}}})
    library.save("without", {**two(), "ui": {"thumbnail": "a.png"}})
    found = {entry["name"]: entry.get("thumbnail") for entry in library.entries()}
    assert found == {"with": {"folder": "output", "name": "a.png"}, "without": None}


async def test_every_schema_that_is_named_exists() -> None:
    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(names, value.values()))
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    known = {*OPENAPI["components"]["schemas"], *OPENAPI["components"]["responses"]}
    assert names(OPENAPI) <= known
    assert set(OPENAPI["components"]["schemas"]) - names(OPENAPI) == set(), "a schema that nobody uses"
