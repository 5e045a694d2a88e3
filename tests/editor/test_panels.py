"""Sweeps, comparisons, sharing and the library, used as a person uses them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from importlib.resources import files
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.editor.desk import Desk
from tests.editor.serving import Serving

PICTURES = os.environ.get("ANYLOOM_PICTURES")


def barriers(desk: Desk, part: str) -> list[str]:
    """What axe finds serious there."""
    desk.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = desk.page.evaluate("async part => (await axe.run(part, {resultTypes: ['violations']})).violations", part)
    return [f"{one['id']} {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")]


def look(desk: Desk, name: str) -> None:
    """A picture in the middle of a scenario, for people to look at."""
    if PICTURES:
        desk.page.wait_for_timeout(400)
        desk.page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def test_a_sweep_is_a_grid_whose_shared_part_is_computed_once(desk: Desk) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to image").click()
    field = desk.node("draw").locator('[data-input="steps"]')
    field.click(button="right")
    desk.page.get_by_role("menuitem", name="Vary steps in a sweep").click()
    expect(field).to_have_class(re.compile("axis"))
    sheet = desk.page.get_by_role("region", name="Sweep")
    steps = sheet.get_by_role("textbox", name=re.compile("Values of .* steps"))
    steps.fill("2, x")
    expect(sheet.get_by_text("“x” is no value for this field.")).to_be_visible()
    expect(sheet.get_by_role("button", name="Run the sweep")).to_be_disabled()
    steps.fill("2..6/2")
    pick = sheet.get_by_role("combobox", name="Vary a field")
    pick.select_option("draw.guidance")
    scale = sheet.get_by_role("textbox", name=re.compile("Values of .* guidance"))
    scale.fill("1, 7.5")
    expect(sheet.get_by_text("6 runs · ")).to_be_visible()
    shared = sheet.locator(".cost .good")
    expect(shared).to_have_text(re.compile(r"\d+ of \d+ steps shared"))
    few, all = map(int, re.findall(r"\d+", shared.inner_text()))
    assert 0 < few < all
    scale.press("Enter")
    cells = sheet.locator(".cell.succeeded")
    expect(cells).to_have_count(6, timeout=240_000)
    expect(sheet.locator(".cell img")).to_have_count(6)
    sheet.get_by_role("button", name="Larger").click()
    look(desk, "sweep")
    assert barriers(desk, ".drawer") == []
    with desk.page.expect_download() as found:
        sheet.get_by_role("button", name="Save as a picture").click()
    grid = Image.open(io.BytesIO(Path(found.value.path()).read_bytes()))
    assert grid.size == (2 * 20 + 130 + 2 * 264, 2 * 20 + 34 + 34 + 3 * 264 + 8)
    colors = grid.crop((150, 88, grid.width - 20, grid.height - 28)).convert("RGB").getcolors(1 << 24) or []
    assert len(colors) > 100  # pictures, not empty cells
    desk.page.reload()
    desk.press("Shift+S")
    expect(sheet.locator(".cell img")).to_have_count(6)  # it is there after a reload
    sheet.get_by_role("button", name=re.compile("Use these values: steps 6, guidance 1")).press("Enter")
    values = desk.document()["nodes"]["draw"]["values"]
    assert (values["steps"], values["guidance"]) == (6, 1)
    sheet.get_by_role("button", name=re.compile("Open this run: steps 4, guidance 7.5")).click()
    desk.ended()
    assert desk.document()["nodes"]["draw"]["values"]["steps"] == 4


def test_versions_and_runs_are_compared_side_by_side(desk: Desk) -> None:
    desk.open(theme="light")
    desk.page.get_by_role("button", name="Any to any").click()
    expect(desk.node("think")).to_be_visible()
    desk.run(timeout_s=240)
    desk.press("Control+Shift+s")
    desk.page.get_by_role("textbox", name="Name", exact=True).fill("compared/one")
    desk.press("Enter")
    expect(desk.page.locator(".toast", has_text="compared/one is saved")).to_be_visible()
    prompt = next(id for id, node in desk.document()["nodes"].items() if node["type"] == "nextgpt.conversation")
    text = desk.node(prompt).get_by_role("textbox").first
    before = text.input_value()
    text.fill(f"{before} And a lighthouse.")
    desk.node("reply").locator(".node-head").click()
    desk.press("Delete")
    expect(desk.node("reply")).to_have_count(0)
    desk.run(timeout_s=60)
    desk.press("Shift+D")
    sheet = desk.page.get_by_role("region", name="Compare")
    expect(sheet.get_by_role("status")).to_have_text("1 removed1 changed")
    row = sheet.locator(f'[data-compared="{prompt}"]')
    expect(row.locator("ins")).to_have_text(" And a lighthouse.")
    expect(row.locator("del")).to_have_count(0)
    gone = sheet.get_by_role("button", name="Reply, removed")
    gone.focus()
    desk.press("Enter")
    expect(sheet.locator('[data-compared="reply"]')).to_have_class(re.compile("chosen"))
    desk.press("Control+z")  # what is compared with is followed while it is edited
    expect(sheet.get_by_role("status")).to_have_text("1 changed")
    look(desk, "compare_versions")
    desk.press("Escape")
    expect(sheet).to_be_hidden()
    desk.press("q")
    desk.page.get_by_role("button", name="Compare with the run before").first.click()
    sheet.get_by_role("button", name="Larger").click()
    slider = sheet.get_by_role("slider", name="How much of the picture before is shown").first
    over = sheet.locator(".slider .over").first
    expect(over).to_be_visible()
    slider.press("Home")
    assert over.evaluate("image => image.style.clipPath") == "inset(0px 100% 0px 0px)"
    slider.press("ArrowRight")
    assert over.evaluate("image => image.style.clipPath") == "inset(0px 99% 0px 0px)"
    assert over.evaluate("image => image.naturalWidth") == 64
    expect(sheet.get_by_role("button", name="Play")).to_have_count(2)  # the two sounds, beside each other
    expect(sheet.locator(".beside video")).to_have_count(2)
    slider.evaluate("slider => slider.scrollIntoView({ block: 'center' })")
    for _ in range(20):
        slider.press("ArrowRight")
    look(desk, "compare_runs")
    assert barriers(desk, ".drawer") == []


def test_a_workflow_is_shared_with_its_files_as_one(desk: Desk, serving: Serving, tmp_path: Path) -> None:
    desk.open(lang="zh")
    picture = tmp_path / "红 boat.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(picture)
    desk.drop(picture)
    expect(desk.page.locator("[data-node]")).to_have_count(1)
    with desk.page.expect_download() as found:
        desk.press("Alt+s")
    assert found.value.suggested_filename.endswith(".anyloom")
    shared = Path(shutil.copy(found.value.path(), tmp_path / "shared.anyloom"))
    (serving.data_dir / "input" / picture.name).unlink()
    desk.drop(shared)
    expect(desk.page.locator(".toast", has_text="文件 1 个,其中 0 个已在此处")).to_be_visible()
    assert (serving.data_dir / "input" / picture.name).read_bytes() == picture.read_bytes()
    (serving.data_dir / "input" / picture.name).write_bytes(b"something else has this name by now")
    desk.drop(shared)
    expect(desk.page.locator(".tab")).to_have_count(3)
    expect(desk.page.locator("[data-node]").get_by_text("红 boat (1).png")).to_be_visible()
    shared.write_bytes(b"PK\3\4 no more than that")
    desk.drop(shared)
    expect(desk.page.locator(".toast.error", has_text="it is no zip archive")).to_be_visible()
    look(desk, "share")
    expect(desk.page.locator(".tab")).to_have_count(3)


def test_the_library_has_pictures_folders_and_what_is_used_first(desk: Desk) -> None:
    desk.open()
    desk.press("w")
    shipped = desk.page.locator(".panel section", has_text="Shipped").locator(".card")
    expect(shipped.first.locator(".graph-picture rect")).not_to_have_count(0)
    last = shipped.last.get_by_role("button").first
    name = last.locator("b").inner_text()
    last.click()
    desk.press("Alt+w")
    expect(shipped.last.locator("b")).to_have_text(name)  # nothing moves away under the pointer
    for _ in range(2):
        desk.press("w")
    expect(shipped.first.locator("b")).to_have_text(name)
    shipped.filter(has_text="text_to_image").get_by_role("button").first.click()
    expect(desk.node("draw")).to_be_visible()
    desk.run(timeout_s=240)
    picture = shipped.filter(has_text="text_to_image").locator(".graph-picture img")
    expect(picture).to_be_visible()  # what it made last
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    desk.press("Control+Shift+s")
    desk.page.get_by_role("textbox", name="Name", exact=True).fill("boats/night/first")
    desk.press("Enter")
    folder = desk.page.get_by_label("Folder boats")
    expect(folder).to_be_visible()
    folder.press("Enter")
    desk.page.get_by_label("Folder night").press("Enter")
    desk.page.get_by_role("button", name="Rename or move boats/night/first").press("Enter")
    box = desk.page.get_by_role("textbox", name="New name of boats/night/first")
    box.fill("boats/day")
    look(desk, "library")
    box.press("Enter")
    expect(desk.page.get_by_label("Folder night")).to_have_count(0)
    expect(desk.page.locator(".tab.now")).to_contain_text("day")
    desk.node("draw").locator(".node-head").click()
    desk.press("Control+m")
    desk.press("Control+s")  # the tab goes on under the new name
    expect(desk.page.locator(".unsaved")).to_have_count(0)
    assert barriers(desk, ".panel") == []


def test_of_two_versions_one_chooses(desk: Desk, browser: Browser, serving: Serving) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to audio").click()
    desk.press("Control+Shift+s")
    desk.page.get_by_role("textbox", name="Name", exact=True).fill("both")
    desk.press("Enter")
    expect(desk.page.get_by_text("both is saved")).to_be_visible()
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    other = Desk(context.new_page(), serving.url).open()
    other.press("w")
    other.page.locator(".card .open", has_text="both").click()
    other.node("prompt").get_by_role("textbox").fill("theirs")
    other.press("Control+s")
    expect(other.page.get_by_text("both is saved")).to_be_visible()
    prompt = desk.node("prompt").get_by_role("textbox")
    prompt.fill("mine")
    desk.press("Control+s")
    dialog = desk.page.get_by_role("dialog", name="Two versions")
    expect(dialog).to_contain_text("both was changed meanwhile")
    look(desk, "conflict")
    assert barriers(desk, ".dialog") == []
    desk.press("Enter")  # see the difference is what has the focus
    row = desk.page.get_by_role("region", name="Compare").locator('[data-compared="prompt"]')
    expect(row.locator("del")).to_have_text("theirs")
    expect(row.locator("ins")).to_have_text("mine")
    desk.press("Escape")
    desk.press("Control+s")
    dialog.get_by_role("button", name="Take theirs").press("Enter")
    expect(prompt).to_have_value("theirs")
    expect(desk.page.locator(".unsaved")).to_have_count(0)
    desk.press("Control+z")
    expect(prompt).to_have_value("mine")
    desk.press("Control+s")  # it rests on theirs now
    expect(desk.page.locator(".unsaved")).to_have_count(0)
    other.node("prompt").get_by_role("textbox").fill("theirs again")
    other.press("Control+s")
    other.page.get_by_role("button", name="Keep mine").press("Enter")
    expect(other.page.locator(".unsaved")).to_have_count(0)
    kept = json.loads((serving.data_dir / "workflows" / "both.json").read_text(encoding="utf-8"))
    assert kept["nodes"]["prompt"]["values"]["text"] == "theirs again"
    assert other.faults == []
    context.close()


def test_memory_is_pushed(desk: Desk) -> None:
    asked: list[str] = []
    desk.page.on("request", lambda request: asked.append(request.url.partition("/api/v1/")[2].partition("?")[0]))
    desk.open()
    desk.page.get_by_role("button", name="Text to audio").click()
    expect(desk.node("prompt")).to_be_visible()
    desk.press("m")
    panel = desk.page.locator(".panel")
    expect(panel.locator(".device")).not_to_have_count(0)
    asked.clear()
    desk.run(timeout_s=240)
    expect(panel.locator(".device .line", has_text="resident")).not_to_have_count(0)
    desk.page.wait_for_timeout(4000)
    # when a run comes and when it ends the cache is looked at; memory is never asked for
    assert asked.count("system") <= 4
    assert asked.count("memory") == asked.count("queue") == 0


def test_nodes_have_chinese_names_while_chinese_is_chosen(desk: Desk) -> None:
    """Found by either name; the document keeps neither. The language can be changed with a workflow open."""
    desk.open(lang="zh")
    for place, words in ((300, "缩放图像"), (700, "load image")):
        desk.page.mouse.dblclick(place, 300)
        box = desk.page.get_by_role("dialog", name="添加节点").get_by_role("combobox")
        box.fill(words)
        box.press("Enter")
        expect(box).to_be_hidden()
    resize, load = desk.node("resize_image"), desk.node("load_image")
    expect(resize.get_by_text("缩放图像", exact=True)).to_be_visible()
    expect(resize.get_by_text("宽度", exact=True)).to_be_visible()
    expect(load.get_by_text("加载图像", exact=True)).to_be_visible()
    look(desk, "chinese_nodes")
    desk.press("Control+,")
    desk.page.get_by_role("dialog", name="设置").get_by_label("语言").select_option("en")
    desk.press("Escape")
    expect(resize.get_by_text("Resize image", exact=True)).to_be_visible()
    expect(resize.get_by_text("width", exact=True)).to_be_visible()
    assert not any(node.get("title") for node in desk.document()["nodes"].values())
