"""Media on nodes: what people paint, hear, see and read there, against real results of a real server."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import Page, expect

from tests.editor.conftest import PICTURES
from tests.editor.desk import Desk
from tests.editor.serving import Serving
from tests.protocol.old_film import film


def drop_nodes(desk: Desk, folder: Path, nodes: dict[str, Any], title: str = "Media") -> None:
    path = folder / f"{title}.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "title": title, "nodes": nodes}))
    desk.drop(path)
    expect(desk.node(next(iter(nodes)))).to_be_visible()


def keep_picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def serious(page: Page, part: str) -> list[str]:
    """What axe finds wrong with a part of the page, of what keeps people from using it."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    script = "async part => (await axe.run(part, {resultTypes: ['violations']})).violations"
    found = page.evaluate(script, part)
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in bad]


def newest(serving: Serving, pattern: str) -> Path:
    return max((serving.data_dir / "output").glob(pattern), key=lambda path: path.stat().st_mtime_ns)


def grey(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def on_stage(page: Page, x: float, y: float) -> tuple[float, float]:
    """A point of the picture, as shares of its sides, on the page."""
    box = page.locator("[data-mask]").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_a_mask_is_painted_kept_used_and_painted_on(desk: Desk, serving: Serving, tmp_path: Path) -> None:
    page = desk.page
    desk.open()
    nodes = {
        "photo": {"type": "media.load_image", "values": {"file": "lighthouse.png"}, "ui": {"x": 0, "y": 0}},
        "show": {
            "type": "media.mask_to_image",
            "links": {"mask": "photo.mask"},  # its transparency, until a mask is painted
            "ui": {"x": 320, "y": 0},
        },
        "save": {
            "type": "media.save_image",
            "links": {"image": "show.image"},
            "values": {"name": "painted"},
            "ui": {"x": 620, "y": 0},
        },
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.node("photo").get_by_role("button", name="Paint a mask").click()
    painter = page.get_by_role("dialog", name="Mask over lighthouse.png")
    expect(painter.get_by_role("button", name="Keep the mask")).to_be_enabled()
    page.mouse.move(*on_stage(page, 0.3, 0.5))
    page.mouse.down()
    page.mouse.move(*on_stage(page, 0.7, 0.5), steps=5)
    page.mouse.up()
    desk.press("i")
    expect(painter.get_by_role("status")).to_contain_text("% covered")
    desk.press("Control+z")
    desk.press("e")
    page.mouse.move(*on_stage(page, 0.5, 0.3))
    page.mouse.down()
    page.mouse.move(*on_stage(page, 0.5, 0.7), steps=5)
    page.mouse.up()
    # and a dot without a pointer: the brush starts in the middle of what was erased
    desk.press("b")
    painter.get_by_role("application").focus()
    page.mouse.move(*on_stage(page, 0.5, 0.5))
    desk.press(" ")
    desk.press(" ")
    keep_picture(page, "painter")
    assert serious(page, ".painter") == []
    desk.press("Control+s")
    expect(painter).to_be_hidden()
    expect(desk.node("load_mask")).to_be_visible()
    assert desk.document()["nodes"]["show"]["links"] == {"mask": "load_mask.mask"}
    desk.run()
    mask = grey(newest(serving, "painted_*.png"))
    height, width = mask.shape
    assert mask.shape == grey(serving.data_dir / "input" / "lighthouse.png").shape

    def at(x: float, y: float) -> int:
        return int(mask[int(y * height), int(x * width)])

    assert (at(0.35, 0.5), at(0.65, 0.5), at(0.5, 0.5)) == (255, 255, 255)
    assert (at(0.5, 0.42), at(0.5, 0.58)) == (0, 0)  # erased
    assert (at(0.05, 0.05), at(0.95, 0.95)) == (0, 0)

    # it is painted on where it was left
    desk.node("load_mask").get_by_role("button", name="Paint a mask").click()
    expect(painter.get_by_role("button", name="Keep the mask")).to_be_enabled()
    desk.press("i")
    desk.press("Control+s")
    expect(painter).to_be_hidden()
    desk.run()
    assert np.array_equal(grey(newest(serving, "painted_*.png")), 255 - mask)
    assert desk.nodes == 4

    # a change is not thrown away by one key
    desk.node("photo").get_by_role("button", name="Paint a mask").click()
    expect(painter.get_by_role("button", name="Keep the mask")).to_be_enabled()
    painter.get_by_role("button", name="Clear").click()
    desk.press("Escape")
    expect(painter.get_by_role("status")).to_contain_text("Once more")
    desk.press("Escape")
    expect(painter).to_be_hidden()

    # what a run made can be painted over as well
    made = newest(serving, "painted_*.png").name
    page.locator('[data-result="save"] img').click()
    page.get_by_role("dialog", name=made).get_by_role("button", name="Paint a mask").click()
    expect(page.get_by_role("dialog", name=f"Mask over {made}")).to_be_visible()
    desk.press("Escape")
    expect(painter).to_be_hidden()


def test_a_sound_is_seen_and_sought(desk: Desk, serving: Serving, tmp_path: Path) -> None:
    page = desk.page
    desk.open()
    nodes = {
        "load": {"type": "media.load_audio", "values": {"file": "violin.wav"}, "ui": {"x": 0, "y": 0}},
        "play": {"type": "media.preview_audio", "links": {"audio": "load.audio"}, "ui": {"x": 320, "y": 0}},
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.run()
    result = page.locator('[data-result="play"]')
    canvas = result.locator("canvas[data-loudest]")
    expect(canvas).to_be_visible()
    samples, rate = soundfile.read(serving.data_dir / "input" / "violin.wav", always_2d=True)
    power = np.abs(np.fft.rfft(samples.mean(1))) ** 2
    band = 21.5  # of one bin of the spectrogram
    bins = np.add.reduceat(
        power, np.searchsorted(np.fft.rfftfreq(len(samples), 1 / rate), np.arange(0, rate / 2, band))
    )
    told = int(canvas.get_attribute("data-loudest") or 0)
    assert abs(told - np.argmax(bins) * band) < 3 * band
    expect(result.get_by_text("1 kHz")).to_be_visible()
    # brighter where it sounds than in the silence before or after
    lit = canvas.evaluate(
        """canvas => { const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let bright = 0; for (let at = 0; at < data.length; at += 4) if (data[at] > 150) bright++;
        return bright / width / height; }"""
    )
    assert 0.01 < lit < 0.9
    place = result.get_by_role("slider", name="Place in")
    box = place.bounding_box()
    assert box is not None
    length = len(samples) / rate
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.7)  # on the spectrogram
    assert result.locator("audio").evaluate("sound => sound.currentTime") == pytest.approx(0.75 * length, abs=0.1)
    place.press("Home")
    expect(place).to_have_attribute("aria-valuenow", "0")
    place.press("ArrowRight")
    expect(place).to_have_attribute("aria-valuetext", "0.5 s")
    keep_picture(page, "sound")
    assert serious(page, ".sound") == []
    result.locator(".time").drag_to(page.locator(".react-flow__pane"), target_position={"x": 400, "y": 780})
    assert desk.document()["nodes"]["load_audio"]["values"]["file"].startswith("temp/")
    desk.press("Control+z")
    result.get_by_role("button", name="Open in full size").click()
    large = page.get_by_role("dialog")
    expect(large.locator("canvas[data-loudest]")).to_be_visible()
    large.get_by_role("button", name="Play").click()
    expect(large.get_by_role("button", name="Pause")).to_be_visible()
    keep_picture(page, "sound_large")
    desk.press("Escape")
    expect(large).to_be_hidden()


def test_a_film_is_looked_through_and_stepped(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    desk.open()
    nodes = {
        "load": {"type": "media.load_video", "values": {"file": "waves.mp4"}, "ui": {"x": 0, "y": 0}},
        "play": {"type": "media.preview_video", "links": {"video": "load.video"}, "ui": {"x": 320, "y": 0}},
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.run()
    result = page.locator('[data-result="play"]')
    strip = result.locator("canvas[data-drawn]")
    expect(strip).to_be_visible()
    cells = strip.evaluate(
        """canvas => { const width = canvas.width / 10; const seen = []; const context = canvas.getContext('2d');
        for (let cell = 0; cell < 10; cell++)
            seen.push([...context.getImageData(cell * width, 0, width, canvas.height).data].join());
        return [new Set(seen).size, Math.max(...seen.map(one => new Set(one.split(',')).size))]; }"""
    )
    assert cells[0] >= 8  # ten moments of 16 frames, and they are no empty pictures
    assert cells[1] > 10
    film, frames = result.locator("video"), result.get_by_role("slider", name="Frame of")

    def now() -> float:
        page.wait_for_function("film => !film.seeking", arg=film.element_handle())
        return float(film.evaluate("film => film.currentTime"))

    for press, frame in (("Next", 2), ("Next", 3), ("Previous", 2)):
        result.get_by_role("button", name=f"{press} frame").click()
        expect(frames).to_have_attribute("aria-valuenow", str(frame))
        assert now() == pytest.approx((frame - 0.5) / 8, abs=0.01)
    expect(frames).to_have_attribute("aria-valuemax", "16")
    box = frames.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 10)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 10)
    assert now() == pytest.approx(1.0, abs=0.06)  # it is shown while the pointer is there
    keep_picture(page, "film")
    assert serious(page, ".reel") == []
    page.mouse.move(box["x"], box["y"] - 300)
    page.wait_for_timeout(200)
    assert now() == pytest.approx(1.5 / 8, abs=0.01)  # and no longer
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 10)
    page.mouse.move(box["x"], box["y"] - 300)
    assert now() == pytest.approx(1.5, abs=0.06)
    frames.press("ArrowRight")
    expect(frames).to_have_attribute("aria-valuenow", "14")
    result.locator("video").drag_to(
        page.locator(".react-flow__pane"), source_position={"x": 30, "y": 20}, target_position={"x": 400, "y": 780}
    )
    assert desk.document()["nodes"]["load_video"]["values"]["file"].startswith("temp/")
    desk.press("Control+z")
    result.get_by_role("button", name="Open in full size").click()
    expect(page.get_by_role("dialog").locator("canvas[data-drawn]")).to_be_visible()
    keep_picture(page, "film_large")


def test_what_the_browser_cannot_play_is_shown_in_another_form(desk: Desk, serving: Serving, tmp_path: Path) -> None:
    page = desk.page
    film(serving.data_dir / "input" / "old.avi")
    Image.fromarray(np.full((40, 60), 30_000, np.uint16)).save(serving.data_dir / "input" / "deep.tif")
    (serving.data_dir / "input" / "broken.avi").write_bytes(b"RIFF" + bytes(200))
    desk.open()
    nodes = {
        name: {"type": f"media.load_{kind}", "values": {"file": file}, "ui": {"x": 320 * place, "y": 0}}
        for place, (name, kind, file) in enumerate(
            [("old", "video", "old.avi"), ("deep", "image", "deep.tif"), ("broken", "video", "broken.avi")]
        )
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.node("old").get_by_role("button", name="Open in full size").click()
    player = page.get_by_role("dialog", name="old.avi").locator("[data-made] video")
    page.wait_for_function("film => film.readyState >= 2", arg=player.element_handle())
    assert player.evaluate("film => [film.videoWidth, film.videoHeight, film.error]") == [96, 64, None]
    expect(page.get_by_role("dialog").locator("canvas[data-drawn]")).to_be_visible()
    keep_picture(page, "playable")
    desk.press("Escape")
    desk.node("deep").get_by_role("button", name="Open in full size").click()
    picture = page.get_by_role("dialog", name="deep.tif").locator("img")
    page.wait_for_function("image => image.naturalWidth === 60", arg=picture.element_handle())
    desk.press("Escape")
    desk.node("broken").get_by_role("button", name="Open in full size").click()
    expect(page.get_by_role("dialog").get_by_text("broken.avi cannot be shown here")).to_be_visible()


def test_tables_charts_and_strips(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    desk.open()
    rows = "\n".join(f"town {number},{number * number},{number % 3}" for number in range(1, 13))
    nodes = {
        "rows": {
            "type": "data.table_from_text",
            "values": {"text": f"town,people,kind\n{rows}"},
            "ui": {"x": 0, "y": 0},
        },
        "save": {"type": "data.save_table", "links": {"table": "rows.table"}, "ui": {"x": 320, "y": 0}},
        "show": {"type": "data.show", "links": {"value": "rows.table"}, "ui": {"x": 320, "y": 380}},
        "sheet": {"type": "diffusion.empty_latent", "values": {"width": 64, "height": 64}, "ui": {"x": 0, "y": 380}},
        "picture": {
            "type": "media.solid_image",
            "values": {"width": 60, "height": 40, "color": "#3366cc"},
            "ui": {"x": 640, "y": 0},
        },
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.run()
    for result in (page.locator('[data-result="save"]'), page.locator('[data-result="show"]')):
        expect(result.get_by_text("12 rows, 3 columns")).to_be_visible()
        expect(result.locator("tbody tr")).to_have_count(12)
    table = page.locator('[data-result="save"]')
    first = table.locator("tbody tr").first.locator("td")
    tops = [cell.bounding_box() for cell in first.all()]
    assert len({round(box["y"]) for box in tops if box}) == 1  # cells of a row lie side by side
    by_size = table.get_by_role("button", name="people")
    by_size.click()
    by_size.click()  # the largest first
    expect(table.get_by_role("columnheader", name="people")).to_have_attribute("aria-sort", "descending")
    expect(table.locator("tbody tr").first).to_contain_text("town 12")
    table.get_by_role("searchbox").fill("town 1")
    expect(table.locator("tbody tr")).to_have_count(4)
    table.get_by_role("button", name="Chart").click()
    bars = table.locator("[data-bar]")
    expect(bars).to_have_count(8)  # two columns of numbers, four towns
    heights = {float(bar.get_attribute("data-bar") or 0): bar.bounding_box() for bar in bars.all()}
    tall, low = heights[144.0], heights[100.0]
    assert tall is not None
    assert low is not None
    assert tall["height"] > 30
    assert tall["height"] / low["height"] == pytest.approx(1.44, abs=0.03)

    # any output can be shown: a latent as a strip, a picture as a picture
    desk.node("sheet").locator(".node-head").click()
    desk.press("Shift+V")
    expect(page.locator('[data-node="show_2"].done')).to_be_visible(timeout=60_000)  # the first latent loads libraries
    strip = page.locator('[data-result="show_2"]').get_by_role("img", name="samples: float32 1 × 4 × 8 × 8")
    expect(strip).to_have_attribute("data-strip", str(16 * 8))
    desk.node("picture").locator(".node-head").click()
    desk.press("Shift+V")
    shown = page.locator('[data-result="show_3"]')
    page.wait_for_function("image => image.naturalWidth === 60", arg=shown.locator("img").element_handle())
    expect(shown.get_by_text("float32 1 × 40 × 60 × 3")).to_be_visible()
    desk.press(".")
    keep_picture(page, "tables")
    assert serious(page, ".tabular") == []
    assert serious(page, ".wire") == []


def test_what_lies_on_the_wires_at_a_breakpoint(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    desk.open()
    nodes = {
        "tone": {"type": "media.load_audio", "values": {"file": "violin.wav"}, "ui": {"x": 0, "y": 300}},
        "red": {
            "type": "media.solid_image",
            "values": {"width": 32, "height": 24, "color": "#ff0000"},
            "ui": {"x": 0, "y": 0},
        },
        "blur": {
            "type": "media.blur_image",
            "links": {"image": "red.image"},
            "ui": {"x": 320, "y": 0, "breakpoint": True},
        },
        "look": {"type": "media.preview_image", "links": {"image": "blur.image"}, "ui": {"x": 640, "y": 0}},
        "louder": {
            "type": "media.gain_audio",
            "links": {"audio": "tone.audio"},
            "ui": {"x": 320, "y": 420, "breakpoint": True},
        },
        "hear": {"type": "media.preview_audio", "links": {"audio": "louder.audio"}, "ui": {"x": 640, "y": 420}},
    }
    drop_nodes(desk, tmp_path, nodes)
    desk.press("Control+Enter")
    expect(page.get_by_role("region", name="On the wires before")).to_have_count(2, timeout=60_000)
    before = page.get_by_role("region", name="On the wires before Blur image")
    picture = before.get_by_role("img", name="image")
    expect(picture).to_be_visible()
    page.wait_for_function("image => image.naturalWidth === 32", arg=picture.element_handle())
    pixel = """image => { const canvas = new OffscreenCanvas(1, 1); const context = canvas.getContext('2d');
        context.drawImage(image, 0, 0); return [...context.getImageData(0, 0, 1, 1).data]; }"""
    assert picture.evaluate(pixel) == [255, 0, 0, 255]
    sound = page.get_by_role("region", name="On the wires before Gain audio")
    expect(sound.locator("canvas[data-loudest]")).to_be_visible()
    keep_picture(page, "breakpoint")
    assert serious(page, ".arrived") == []
    expect(page.locator('[data-result="look"] img')).to_have_count(0)
    before.get_by_role("button", name="Go on").click()
    expect(page.locator('[data-result="look"] img')).to_be_visible()
    expect(before).to_be_hidden()
    expect(sound).to_be_visible()  # the other one waits
    desk.press("F8")
    desk.ended()
    expect(sound).to_be_hidden()
    expect(page.locator('[data-result="hear"] canvas[data-loudest]')).to_be_visible()
