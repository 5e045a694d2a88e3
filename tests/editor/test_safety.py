"""What must not happen: a script of a document runs, somebody's work is lost, somebody cannot use the page."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.editor.desk import Desk
from tests.editor.serving import Serving

EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"


def write(path: Path, nodes: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "title": "Test", "nodes": nodes, **more}))
    return path


def test_no_name_and_no_text_is_ever_run(desk: Desk, tmp_path: Path) -> None:
    desk.open()
    note = f"# {EVIL}\n[press](javascript:window.hacked=1) [there](https://example.org/) `{EVIL}`\n\n{EVIL}"
    nodes = {
        "text": {"type": "control.text", "title": EVIL, "values": {"value": EVIL}, "ui": {"x": 0, "y": 0}},
        "show": {"type": "media.show_text", "links": {"text": "text.text"}, "ui": {"x": 300, "y": 0}},
        "odd": {"type": EVIL, "title": EVIL, "values": {EVIL: EVIL}, "ui": {"x": 0, "y": 300}},
        "loop": {
            "type": "media.load_image",
            "mode": "muted",
            "values": {"file": f"../{EVIL}"},
            "ui": {"x": 300, "y": 300},
        },
    }
    ui = {
        "notes": [{"id": "note:1", "x": 600, "y": 0, "width": 400, "height": 300, "text": note, "color": "red;}*{x:1"}],
        "groups": [{"id": "group:1", "x": -30, "y": -60, "width": 900, "height": 600, "title": EVIL, "color": EVIL}],
    }
    desk.drop(write(tmp_path / "evil.json", nodes, title=EVIL, ui=ui))
    expect(desk.page.locator(".note h4")).to_be_visible()
    expect(desk.page.locator(".note a")).to_have_count(1)
    expect(desk.page.locator(".note a")).to_have_attribute("href", "https://example.org/")
    desk.node("odd").click(button="right")
    desk.press("Escape")
    desk.node("show").locator(".node-head").click()
    desk.press("Alt+Enter")  # the unknown node is in nobody's way: it is said what is wrong with it
    expect(desk.page.locator(".problem").first).to_be_visible()
    desk.press("q")
    desk.press("n")
    assert desk.page.evaluate("window.hacked") is None
    assert desk.page.locator("img[src=x]").count() == 0


def test_what_is_unknown_is_kept(desk: Desk, tmp_path: Path) -> None:
    desk.open()
    nodes = {
        "gone": {
            "type": "future.node",
            "strange": [1],
            "values": {"dial": {"deep": 1}},
            "ui": {"x": 0, "y": 0, "odd": 1},
        },
        "show": {"type": "media.show_text", "links": {"text": "gone.text"}, "ui": {"x": 400, "y": 0}},
        "seed": {"type": "control.seed", "values": {"seed": 18446744073709551615}, "ui": {"x": 400, "y": 300}},
    }
    path = write(tmp_path / "future.json", nodes, later={"a": [None]})
    desk.drop(path)
    expect(desk.page.locator('[data-node="gone"].missing')).to_be_visible()
    desk.node("show").locator(".node-head").click()
    desk.press("Control+m")
    desk.press("Control+m")
    assert desk.document() == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "This is no JSON"),
        ('{"nodes": [], "links": [], "version": 0.4}', "This is a workflow of ComfyUI"),
        ('{"format": "anyloom", "version": 99, "nodes": {}}', "newer than this editor"),
        ("x" * (17 << 20), "too large for a workflow"),
    ],
    ids=["broken", "foreign", "newer", "huge"],
)
def test_what_is_no_workflow_is_refused_with_a_reason(desk: Desk, tmp_path: Path, content: str, says: str) -> None:
    desk.open()
    path = tmp_path / "file.json"
    path.write_text(content)
    if len(content) > 1 << 20:  # a page cannot be handed that much as a list: it is made there
        desk.page.evaluate(
            """() => { const all = new DataTransfer(); all.items.add(new File([new Uint8Array(17 << 20)], 'file.json'));
            document.querySelector('.react-flow__pane').dispatchEvent(
                new DragEvent('drop', {dataTransfer: all, bubbles: true, cancelable: true})); }"""
        )
    else:
        desk.drop(path)
    expect(desk.page.locator(".toast.error")).to_contain_text(says)
    expect(desk.page.locator(".tab")).to_have_count(1)


def test_each_window_keeps_its_own_work(desk: Desk, serving: Serving) -> None:
    desk.open()
    desk.add(300, 150, "number")
    other = Desk(desk.page.context.new_page(), serving.url).open()
    expect(other.page.get_by_role("heading", name="What shall we weave?")).to_be_visible()
    other.add(300, 150, "save text")
    other.page.close(run_before_unload=True)  # what it had is kept, whatever the first window does after it
    desk.node("number").locator(".node-head").click()
    desk.press("Control+d")
    desk.page.reload()
    expect(desk.page.locator("[data-node]")).to_have_count(2)
    expect(desk.page.locator(".tab")).to_have_count(1)
    page = desk.page.context.new_page()
    desk.page.close(run_before_unload=True)
    page.goto(serving.url)  # the next one takes over what both of them left
    expect(page.locator(".tab")).to_have_count(2)
    expect(page.locator("[data-node]")).to_have_count(2)
    page.locator(".tab button").first.click()
    desk.page = page


def test_what_was_changed_elsewhere_is_not_written_over(desk: Desk, browser: Browser, serving: Serving) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to audio").click()
    desk.press("Control+s")
    desk.page.get_by_role("textbox", name="Name", exact=True).fill("shared")
    desk.press("Enter")
    expect(desk.page.get_by_text("shared is saved")).to_be_visible()
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    other = Desk(context.new_page(), serving.url).open()
    other.press("w")
    other.page.locator(".card .open", has_text="shared").click()
    expect(other.node("prompt")).to_be_visible()
    other.node("prompt").get_by_role("textbox").fill("mine")
    other.press("Control+s")
    expect(other.page.get_by_text("shared is saved")).to_be_visible()
    context.close()
    desk.node("prompt").get_by_role("textbox").fill("another")
    expect(desk.page.locator(".unsaved")).to_be_visible()
    desk.press("Control+s")
    expect(desk.page.get_by_text("was changed meanwhile")).to_be_visible()
    desk.page.get_by_role("button", name="Keep mine").click()
    expect(desk.page.locator(".unsaved")).to_have_count(0)


def test_a_server_that_wants_a_token_gets_it(browser: Browser, tmp_path: Path) -> None:
    serving = Serving(tmp_path / "data", "--token", "open-sesame")
    serving.start()
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    try:
        desk = Desk(context.new_page(), serving.url)
        desk.page.goto(f"{serving.url}/?token=wrong")
        assert "wants a token" in desk.page.content()
        desk.url = f"{serving.url}/?token=open-sesame"
        desk.open()
        expect(desk.page.get_by_role("button", name="Any to any")).to_be_visible()
        assert "sesame" not in desk.page.url
        context.clear_cookies()
        desk.press("r")
        expect(desk.page.get_by_role("dialog", name="Token")).to_be_visible()
    finally:
        context.close()
        serving.stop()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_everybody_can_use_it(desk: Desk, theme: str) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    desk.open(theme=theme)
    desk.page.evaluate(axe)
    seen: dict[str, list[Any]] = {}

    def look(where: str, part: str = "body") -> None:
        desk.page.wait_for_timeout(100)
        found = desk.page.evaluate(
            "async part => (await axe.run(part, {resultTypes: ['violations']})).violations", part
        )
        bad = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
        if bad:
            seen[where] = bad

    look("start")
    desk.page.get_by_role("button", name="Text to image").click()
    expect(desk.node("draw")).to_be_visible()
    look("canvas")
    panels = {"w": "workflows", "n": "nodes", "q": "runs", "m": "models", "e": "problems", "c": "chat"}
    for key, name in panels.items():
        if theme == "dark" or key in "nc":
            desk.press(key)
            look(name, ".chat" if name == "chat" else ".panel")
    desk.press("?")
    look("help", ".dialog")
    desk.press("Escape")
    desk.press("Control+,")
    look("settings", ".dialog")
    desk.press("Escape")
    desk.page.locator(".canvas").press("Tab")
    desk.page.mouse.dblclick(700, 780)
    look("search", ".search")
    assert seen == {}


def test_chinese_is_complete_on_the_page(desk: Desk) -> None:
    desk.open(lang="zh")
    expect(desk.page.get_by_role("button", name="运行", exact=True)).to_be_visible()
    desk.press("?")
    text = desk.page.get_by_role("dialog").inner_text()
    assert "运行到此处" in text and "Bypass" not in text
