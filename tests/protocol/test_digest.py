"""What people may look at: values of a wire as digests and media, and files in a form that every browser shows."""

from __future__ import annotations

import io
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import pytest_asyncio
import soundfile
import torch
from PIL import Image

from graph_engine.graph.outcome import Skip
from graph_engine.models.spec import ModelSpec
from tests.protocol.live import LiveServer
from tests.protocol.old_film import film
from web import playable
from web.digest import STRIP, digest, media_of
from web.playable import Playable

torch.set_num_threads(1)


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


# --- digests ------------------------------------------------------------------------------------------------------


def test_an_embedding_becomes_a_strip() -> None:
    tensor = torch.linspace(-1, 1, 1024).view(1, 1, 1024)
    found = digest({"tensor": tensor, "modality": "image", "form": "global"})
    assert [field["name"] for field in found["fields"]] == ["tensor", "modality", "form"]
    strip = found["fields"][0]["value"]
    assert (strip["shape"], strip["dtype"]) == ([1, 1, 1024], "float32")
    assert (strip["min"], strip["max"]) == (-1, 1)
    assert strip["mean"] == pytest.approx(0, abs=1e-6)
    assert (strip["rows"], strip["columns"], len(strip["strip"])) == (1, 512, 512)
    assert strip["strip"][0] == pytest.approx(float(tensor[0, 0, :2].mean()), abs=1e-5)
    assert strip["strip"] == sorted(strip["strip"])


@pytest.mark.parametrize("shape", [(), (3,), (1, 77, 768), (2, 4, 8, 8), (5000, 3), (3, 5000), (2100, 2100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_strips_are_small_whatever_the_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = (torch.rand(shape) * 2).to(dtype)
    found = digest(tensor)
    assert found["shape"] == list(shape)
    assert len(found["strip"]) == found["rows"] * found["columns"] <= STRIP
    assert found["mean"] == pytest.approx(float(tensor.double().mean()), abs=0.01)
    assert found["min"] <= min(found["strip"]) + 1e-4
    assert max(found["strip"]) <= found["max"] + 1e-4


def test_what_is_not_finite_is_counted() -> None:
    found = digest(torch.tensor([1.0, math.nan, 3.0, math.inf]))
    assert (found["not_finite"], found["min"], found["max"]) == (2, 1, 3)
    assert all(map(math.isfinite, found["strip"]))
    assert digest(torch.full((4,), math.nan))["not_finite"] == 4
    assert digest(torch.full((4,), 3e38))["not_finite"] == 0
    assert digest(torch.zeros(0, 5))["shape"] == [0, 5]


def test_other_values_have_a_form() -> None:
    assert digest("x" * 30_000) == {"form": "text", "text": "x" * 20_000, "length": 30_000}
    assert digest({"a": [1, None]}) == {"form": "json", "value": {"a": [1, None]}}
    table = digest({"columns": ["n"], "rows": [[number] for number in range(9000)]})
    assert (table["form"], table["length"], len(table["rows"])) == ("table", 9000, 500)
    assert digest(Skip("none was signalled")) == {"form": "skipped", "message": "none was signalled"}
    pairs = digest([[torch.rand(1, 4, 8), {"pooled": torch.rand(1, 8)}]])  # a CONDITIONING
    assert pairs["items"][0]["items"][0]["shape"] == [1, 4, 8]
    assert digest(ModelSpec("clip", {"width": 8}))["value"]["family"] == "clip"
    deep: list[Any] = [torch.rand(2)]
    for _ in range(50):
        deep = [deep]
    assert digest(deep)["length"] == 1


def test_batches_are_written_entry_by_entry(tmp_path: Path) -> None:
    images = torch.rand(2, 6, 8, 3)
    assert {"medium": "image", "count": 2}.items() <= digest(images).items()
    media_of(images, 1, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert np.abs(np.asarray(picture) / 255 - images[1].numpy()).max() < 0.003
    media_of(torch.rand(1, 3000, 10), 0, tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.size == (7, 2048)
    sound = {"waveform": torch.rand(3, 1, 800) - 0.5, "sample_rate": 8000}
    assert digest(sound)["count"] == 3
    media_of(sound, 2, tmp_path / "two.wav")
    samples, rate = soundfile.read(tmp_path / "two.wav")
    assert rate == 8000
    assert np.abs(samples - sound["waveform"][2, 0].numpy()).max() < 1e-4
    assert digest({"frames": torch.rand(4, 8, 8, 3), "fps": 4.0})["medium"] == "video"


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_artifacts_are_looked_at(live: LiveServer, http: aiohttp.ClientSession) -> None:
    document = {"format": "anyloom", "version": 1, "nodes": {"p": {"type": "trial.picture", "values": {"side": 40}}}}
    async with http.post("runs?wait_s=10", json={"document": document, "targets": ["p"]}) as response:
        image = (await response.json())["result"]["p"]["image"]
    at = f"artifacts/{image['artifact']}/{image['port']}"
    async with http.get(f"{at}?format=digest") as response:
        found = (await response.json())["value"]
    assert (found["shape"], found["medium"], found["mean"]) == ([1, 40, 40, 3], "image", 0.5)
    async with http.get(f"{at}?format=media") as response:
        assert response.content_type == "image/png"
        with Image.open(io.BytesIO(await response.read())) as picture:
            assert (picture.size, picture.getpixel((3, 3))) == ((40, 40), (128, 128, 128))
    for wrong in ("format=media&index=5", "format=digest&item=2", "format=media&item=0"):
        async with http.get(f"{at}?{wrong}") as response:
            assert response.status == 404, wrong
    async with http.get("artifacts/nobody/0?format=digest") as response:
        assert response.status == 404


@pytest.mark.asyncio
async def test_an_old_film_becomes_one_that_browsers_play(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["input"]
    film(folder / "old.avi")
    async with http.get("playable/input/old.avi", headers={"Range": "bytes=4-7"}) as response:
        assert (response.status, response.content_type) == (206, "video/mp4")
        assert await response.read() == b"ftyp"
    async with http.get("playable/input/old.avi") as response:
        data = await response.read()
    with av.open(io.BytesIO(data)) as made:
        assert [stream.codec_context.name for stream in made.streams] == ["h264", "aac"]
        frames = list(made.decode(video=0))
        with av.open(str(folder / "old.avi")) as old:
            times = [frame.time for frame in old.decode(video=0)]
        assert [frame.time for frame in frames] == pytest.approx(times, abs=0.001)
        last = frames[-1].to_ndarray(format="rgb24")
        assert last[32, 20, 0] > 200 > 80 > last[32, 92, 0]
        assert float(made.duration or 0) / av.time_base == pytest.approx(1.0, abs=0.1)


@pytest.mark.asyncio
async def test_pictures_and_sounds_that_browsers_do_not_know(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["input"]
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21).save(folder / "deep.tif")
    async with http.get("playable/input/deep.tif") as response:
        assert response.content_type == "image/png"
        with Image.open(io.BytesIO(await response.read())) as picture:
            assert picture.size == (64, 48)
            assert picture.convert("L").getpixel((63, 47)) in range(250, 256)
    tone = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    soundfile.write(folder / "tone.aiff", tone, 24_000, format="AIFF", subtype="FLOAT")
    async with http.get("playable/input/tone.aiff") as response:
        assert response.content_type == "audio/mp4"
        data = await response.read()
    with av.open(io.BytesIO(data)) as made:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in made.decode(audio=0)])
    peak = np.argmax(np.abs(np.fft.rfft(samples[4800:43_200])))
    assert peak * 48_000 / 38_400 == pytest.approx(440, abs=2)


@pytest.mark.asyncio
@pytest.mark.parametrize("samples", [0, 1])
async def test_a_sound_of_no_length_is_said(live: LiveServer, http: aiohttp.ClientSession, samples: int) -> None:
    soundfile.write(live.engine.folders.roots["input"] / f"short{samples}.wav", np.zeros(samples), 8000)
    async with http.get(f"playable/input/short{samples}.wav") as response:
        assert response.status == 400
        assert "has no sound" in (await response.json())["error"]["message"]


@pytest.mark.asyncio
async def test_what_has_no_other_form(live: LiveServer, http: aiohttp.ClientSession) -> None:
    folder = live.engine.folders.roots["input"]
    (folder / "page.html").write_text("<script>1</script>")
    (folder / "drawing.svg").write_text("<svg onload='alert(1)'/>")
    (folder / "list.m3u").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    (folder / "broken.avi").write_bytes(b"RIFF" + os.urandom(200))
    (folder / "list.avi").write_text("ffconcat version 1.0\nfile old.avi\n")
    film(folder / "old.avi")
    wanted = {
        "page.html": 404,
        "drawing.svg": 404,
        "list.m3u": 404,
        "nobody.avi": 404,
        "broken.avi": 400,
        "list.avi": 400,
    }
    for name, status in wanted.items():
        async with http.get(f"playable/input/{name}") as response:
            assert response.status == status, (name, await response.text())
            assert (await response.json())["error"]["remedy"]
    kept = live.engine.folders.roots["temp"] / ".playable"
    assert not [path for path in kept.iterdir() if ".part." in path.name]


@pytest.mark.asyncio
async def test_they_are_made_once_and_the_oldest_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playable, "KEPT_BYTES", 2500)
    made: list[str] = []
    shelf = Playable(tmp_path / "kept")

    def make(name: str) -> playable.Make:
        def write(path: Path) -> None:
            made.append(name)
            path.write_bytes(bytes(1000))

        return write

    paths = {}
    for moment, name in enumerate(("a", "b", "a", "c")):
        paths[name] = await shelf.of(name, "bin", make(name))
        os.utime(paths[name], (moment, moment))
    assert made == ["a", "b", "c"]
    assert (paths["a"].exists(), paths["b"].exists(), paths["c"].exists()) == (True, False, True)
