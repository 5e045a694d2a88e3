"""A person makes a subgraph out of a part of a workflow, works in it, uses it again, keeps it, and takes it apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.editor.conftest import PICTURES
from tests.editor.desk import Desk
from tests.editor.test_canvas import at, opened


def chain() -> dict[str, Any]:
    return {
        "first": {"type": "control.text", "values": {"value": "one"}, "ui": at(0, 0)},
        "upper": {"type": "control.replace_text", "values": {"find": "o", "replacement": "0"}, "ui": at(300, 0)},
        "wait": {"type": "control.sleep", "values": {"seconds": 0.2}, "ui": at(600, 0)},
        "show": {"type": "media.show_text", "ui": at(900, 0)},
    }


NODES = chain()
NODES["upper"]["links"] = {"text": "first.text"}
NODES["wait"]["links"] = {"value": "upper.text"}
NODES["show"]["links"] = {"text": "wait.value"}


def look(desk: Desk, name: str) -> None:
    """A picture for people, where they asked for some."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        desk.page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def choose(desk: Desk, *ids: str) -> None:
    desk.page.keyboard.down("Shift")
    for id in ids:
        desk.node(id).locator(".node-head").click()
    desk.page.keyboard.up("Shift")


def test_a_subgraph_from_making_to_taking_apart(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    opened(desk, tmp_path, NODES)
    before = desk.document()
    choose(desk, "upper", "wait")
    desk.press("Control+Shift+E")
    expect(desk.node("subgraph")).to_be_visible()
    expect(desk.node("upper")).to_have_count(0)
    document = desk.document()
    assert document["version"] == 2
    assert document["nodes"]["show"]["links"] == {"text": "subgraph.value"}
    desk.run()
    expect(page.locator('[data-result="show"]')).to_have_text("0ne")
    expect(desk.node("subgraph").locator(".badge").last).to_contain_text("ms")

    # inside: borders, a promoted field
    desk.node("subgraph").locator(".node-head").dblclick(position={"x": 180, "y": 30})
    expect(page.locator(".crumbs")).to_contain_text("Subgraph")
    expect(desk.node("@")).to_be_visible()
    expect(page.locator(".react-flow__edge")).to_have_count(3)
    expect(desk.node("upper").locator(".badge").last).to_be_visible()  # its time, in the run outside
    desk.node("upper").locator('[data-input="replacement"]').hover()
    desk.node("upper").get_by_role("button", name="Show outside: replacement").click()
    look(desk, "subgraph_inside")
    desk.node("upper").locator(".node-head").click()
    desk.press("Shift+V")  # what it gives, shown inside
    expect(page.locator('[data-result="show"]')).to_contain_text("0ne")
    desk.press("Control+z")
    expect(desk.node("show")).to_have_count(0)
    desk.press("Escape")
    expect(page.locator(".crumbs")).to_have_count(0)
    outside = desk.node("subgraph").locator('[data-input="replacement"]').get_by_role("textbox")
    expect(outside).to_have_value("0")
    outside.fill("00")
    outside.press("Tab")
    desk.run()
    expect(page.locator('[data-result="show"]')).to_have_text("00ne")
    look(desk, "subgraph_outside")

    # its title and the names of its ports
    desk.node("subgraph").locator(".node-head").click()
    desk.command("Ports and title")
    page.get_by_role("textbox", name="Title").fill("Zeros")
    page.get_by_label("Rename text").fill("words")
    desk.press("Enter")
    desk.press("Escape")
    expect(desk.node("subgraph")).to_contain_text("Zeros")
    assert desk.document()["nodes"]["subgraph"]["links"] == {"words": "first.text"}

    # published, and added again in another workflow
    desk.node("subgraph").locator(".node-head").click()
    desk.command("Publish the subgraph")
    expect(page.get_by_text("Zeros is in your library")).to_be_visible()
    desk.press("Alt+n")
    desk.add(150, 720, "zeros")
    expect(desk.node("subgraph")).to_be_visible()
    other = desk.document()
    assert other["subgraphs"]["subgraph"]["title"] == "Zeros" and other["version"] == 2
    desk.press("Alt+PageUp")

    # a copy shares its definition; what is wrong inside is told outside
    desk.node("subgraph").locator(".node-head").click()
    desk.press("Control+d")
    expect(desk.node("subgraph_2")).to_be_visible()
    assert list(desk.document()["subgraphs"]) == ["subgraph"]
    desk.press("Delete")
    desk.node("subgraph").locator(".node-head").click()
    desk.press("Alt+ArrowDown")
    expect(page.locator(".crumbs")).to_be_visible()
    page.locator('.react-flow__edge[data-id="upper.text"]').focus()
    desk.press("Enter")
    desk.press("Delete")
    desk.press("Alt+ArrowUp")
    expect(page.locator('[data-node="subgraph"].wrong')).to_be_visible()
    desk.press("e")
    page.locator(".problem").get_by_role("button", name="Replace text · text").click()
    expect(page.locator(".crumbs")).to_be_visible()
    expect(page.locator('[data-node="upper"].selected')).to_be_visible()
    desk.press("Control+z")
    expect(page.locator(".problem")).to_have_count(0)
    desk.press("Escape")

    # taken apart, and everything undone
    desk.node("subgraph").locator(".node-head").click()
    desk.press("Control+Shift+U")
    expect(desk.node("wait")).to_be_visible()
    nodes = desk.document()["nodes"]
    assert nodes["show"]["links"] == {"text": "wait.value"} and nodes["upper"]["values"]["replacement"] == "00"
    assert "subgraphs" not in desk.document() or desk.document()["subgraphs"] == {}
    for _ in range(40):
        desk.press("Control+z")
    assert desk.document() == before
    for _ in range(40):
        desk.press("Control+y")
    assert desk.document()["nodes"]["upper"]["values"]["replacement"] == "00"
