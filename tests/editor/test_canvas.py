"""Single things that people do on the canvas and with runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.editor.desk import Desk


def opened(desk: Desk, folder: Path, nodes: dict[str, Any], **more: Any) -> Desk:
    path = folder / "graph.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "title": "Graph", "nodes": nodes, **more}))
    desk.open()
    desk.drop(path)
    expect(desk.node(next(iter(nodes)))).to_be_visible()
    desk.page.wait_for_timeout(300)
    return desk


def at(x: float, y: float) -> dict[str, float]:
    return {"x": x, "y": y}


CHAIN = {
    "text": {"type": "control.text", "values": {"value": "first"}, "ui": at(0, 0)},
    "wait": {"type": "control.sleep", "values": {"seconds": 0.05}, "links": {"value": "text.text"}, "ui": at(320, 0)},
    "show": {"type": "media.show_text", "links": {"text": "wait.value"}, "ui": at(640, 0)},
}


def test_a_group_takes_along_what_lies_in_it(desk: Desk, tmp_path: Path) -> None:
    group = {"id": "group:1", "x": -30, "y": -70, "width": 650, "height": 330, "title": "Both", "color": "#4d7a5b"}
    opened(desk, tmp_path, CHAIN, ui={"groups": [group]})
    before = desk.document()
    x, y = desk._middle(desk.page.locator(".group-head"))
    desk.page.mouse.move(x, y)
    desk.page.mouse.down()
    desk.page.mouse.move(x + 30, y + 50, steps=5)
    desk.page.mouse.move(x + 60, y + 100, steps=5)
    desk.page.mouse.up()
    after = desk.document()
    moved = {
        id: (
            after["nodes"][id]["ui"]["x"] - before["nodes"][id]["ui"]["x"],
            after["nodes"][id]["ui"]["y"] - before["nodes"][id]["ui"]["y"],
        )
        for id in CHAIN
    }
    assert moved["text"] == moved["wait"] and moved["text"][0] > 20 and moved["text"][1] > 40
    assert moved["show"] == (0, 0)
    assert after["ui"]["groups"][0]["x"] - group["x"] == moved["text"][0]
    desk.press("Control+z")
    assert desk.document() == before


def test_a_copy_goes_to_another_tab_with_its_links(desk: Desk, tmp_path: Path) -> None:
    opened(desk, tmp_path, CHAIN)
    desk.press("Control+a")
    desk.press("Control+c")
    desk.press("Alt+n")
    expect(desk.page.locator(".tab")).to_have_count(2)
    desk.page.mouse.move(500, 400)
    desk.press("Control+v")
    expect(desk.node("show")).to_be_visible()
    nodes = desk.document()["nodes"]
    assert nodes["show"]["links"] == {"text": "wait.value"} and nodes["wait"]["links"] == {"value": "text.text"}
    desk.press("Shift+L")  # ELK, in its worker, under the page's policy
    links = desk.page.locator(".react-flow__edge")
    expect(links).to_have_count(2)
    fetched = "performance.getEntriesByType('resource').filter(one => one.name.includes('elk-worker')).length"
    for _ in range(100):
        if desk.page.evaluate(fetched) and desk.document()["nodes"] != nodes:
            break
        desk.page.wait_for_timeout(100)
    places = {id: node["ui"] for id, node in desk.document()["nodes"].items()}
    assert places["text"]["x"] < places["wait"]["x"] < places["show"]["x"]


def test_linking_by_keyboard_and_a_converter(desk: Desk, tmp_path: Path) -> None:
    nodes = {
        "number": {"type": "control.number", "values": {"value": 2.5}, "ui": at(0, 0)},
        "show": {"type": "media.show_text", "links": {"text": "number.float"}, "ui": at(700, 0)},
    }
    opened(desk, tmp_path, nodes)
    desk.press("Control+k")
    box = desk.page.get_by_role("combobox", name="All commands")
    box.fill("mute")
    box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})  # it chooses a word of an input method
    expect(box).to_be_visible()
    box.press("Escape")
    desk.press("e")
    desk.page.get_by_role("button", name="Insert To text").click()
    expect(desk.page.locator(".problem")).to_have_count(0)
    desk.run()
    expect(desk.page.locator('[data-result="show"]')).to_contain_text("2.5")
    link = desk.page.locator('.react-flow__edge[data-id="show.text"]')
    link.focus()
    desk.press("Enter")
    desk.press("Delete")
    expect(link).to_have_count(0)
    desk.node("show").locator(".node-head").click()
    desk.press("k")
    desk.page.get_by_role("combobox", name="Link the selected node").fill("text → text")
    desk.press("Enter")
    expect(link).to_have_count(1)


def test_a_run_pauses_and_an_output_is_kept(desk: Desk, tmp_path: Path) -> None:
    opened(desk, tmp_path, CHAIN)
    desk.node("show").locator(".node-head").click()
    desk.press("Shift+B")
    desk.press("Control+Enter")
    expect(desk.page.locator('[data-node="show"].paused')).to_be_visible()
    desk.press("F8")
    desk.ended()
    shown = desk.page.locator('[data-result="show"]')
    expect(shown).to_have_text("first")
    desk.press("Shift+B")
    desk.node("text").locator(".node-head").click()
    desk.press("Shift+K")
    desk.node("text").get_by_role("textbox").fill("second")
    desk.page.locator(".react-flow__pane").click(position={"x": 30, "y": 700})
    desk.run()
    expect(shown).to_have_text("first")  # the output of the first run holds
    desk.press("Control+z")
    desk.press("Control+z")
    desk.node("text").get_by_role("textbox").fill("third")
    desk.page.locator(".react-flow__pane").click(position={"x": 30, "y": 700})
    desk.press("Control+Enter")
    expect(shown).to_have_text("third")


def test_what_fits_lights_up_and_nothing_else_connects(desk: Desk, tmp_path: Path) -> None:
    nodes = {
        "image": {"type": "media.solid_image", "ui": at(0, 0)},
        "blur": {"type": "media.blur_image", "ui": at(400, 0)},
        "text": {"type": "media.show_text", "ui": at(400, 300)},
    }
    opened(desk, tmp_path, nodes)
    desk.page.mouse.move(*desk._middle(desk.socket("image", "o:image")))
    desk.page.mouse.down()
    desk.page.mouse.move(600, 200, steps=3)
    expect(desk.socket("blur", "i:image")).to_have_attribute("data-fit", "yes")
    expect(desk.socket("text", "i:text")).to_have_attribute("data-fit", "no")
    desk.page.mouse.move(*desk._middle(desk.socket("text", "i:text")), steps=3)
    desk.page.mouse.up()
    expect(desk.page.locator(".react-flow__edge")).to_have_count(0)
    desk.link("image", "image", "blur", "image")
    expect(desk.page.locator(".react-flow__edge")).to_have_count(1)
    desk.link("blur", "image", "image", "width")
    expect(desk.page.locator(".react-flow__edge")).to_have_count(1)


def test_links_are_there_when_one_comes_near(desk: Desk, tmp_path: Path) -> None:
    """A workflow that is first seen from afar, where nodes are plates without sockets."""
    nodes: dict[str, Any] = {"n0": {"type": "media.solid_image", "ui": at(0, 0)}}
    for number in range(1, 160):
        place = at(number % 16 * 330, number // 16 * 260)
        nodes[f"n{number}"] = {"type": "media.blur_image", "links": {"image": f"n{number - 1}.image"}, "ui": place}
    opened(desk, tmp_path, nodes)
    desk.press(".")
    expect(desk.page.locator(".node.far")).to_have_count(160)
    expect(desk.page.locator(".far-links path").first).to_be_attached()
    for _ in range(8):
        desk.press("Alt+=")
        desk.page.wait_for_timeout(200)
    expect(desk.page.locator(".node.far")).to_have_count(0)
    expect(desk.page.locator(".react-flow__edge path").first).to_be_attached()


def test_a_link_is_taken_off_by_its_end(desk: Desk, tmp_path: Path) -> None:
    other = {"type": "media.show_text", "ui": at(640, 320)}
    opened(desk, tmp_path, {**CHAIN, "other": other}, ui={"reroutes": {"show.text": [at(600, -40)]}})
    before = desk.document()

    def links() -> dict[str, str]:
        return {id: link for id, node in desk.document()["nodes"].items() for link in node.get("links", {}).values()}

    end = desk.socket("show", "i:text")
    end.click()  # a press alone takes nothing off
    desk.link("text", "text", "other", "text")
    desk.press("Control+z")
    assert desk.document() == before
    desk._draw(end, desk.socket("other", "i:text"))
    after = desk.document()
    assert links() == {"wait": "text.text", "other": "wait.value"}
    assert after["ui"]["reroutes"] == {"other.text": [at(600, -40)]}
    desk.press("Control+z")
    assert desk.document() == before
    desk._draw(end, end)  # back where it was: no step, which would have taken the place of the one to redo
    desk.press("Control+y")
    assert desk.document() == after
    desk.press("Control+z")
    desk.page.mouse.move(*desk._middle(end))
    desk.page.mouse.down()
    desk.page.mouse.move(700, 700, steps=5)
    expect(desk.page.locator('.react-flow__edge[data-id="show.text"] .react-flow__edge-path')).to_have_count(0)
    expect(desk.socket("other", "i:text")).to_have_attribute("data-fit", "yes")
    desk.page.mouse.move(700, 780, steps=2)
    desk.page.mouse.up()
    box = desk.page.get_by_role("combobox", name="Add a node")
    expect(box).to_have_attribute("placeholder", "Nodes that take STRING")
    expect(desk.page.locator(".react-flow__edge")).to_have_count(1)
    box.press("Escape")
    assert links() == {"wait": "text.text"}
    desk.press("Control+z")
    assert desk.document() == before


def test_a_press_on_a_reroute_is_no_step(desk: Desk, tmp_path: Path) -> None:
    opened(desk, tmp_path, CHAIN, ui={"reroutes": {"show.text": [at(600, -40)]}})
    desk.node("text").get_by_role("textbox").fill("second")
    desk.page.locator(".react-flow__pane").click(position={"x": 300, "y": 800})
    desk.page.locator(".reroute").click()
    desk.press("Control+z")
    assert desk.document()["nodes"]["text"]["values"] == {"value": "first"}


def test_what_a_bypassed_node_leaves_out_is_said(desk: Desk, tmp_path: Path) -> None:
    nodes = {
        "image": {"type": "media.solid_image", "ui": at(0, 0)},
        "text": {"type": "media.image_info", "links": {"image": "image.image"}, "mode": "bypassed", "ui": at(320, 0)},
        "show": {"type": "data.show", "links": {"value": "text.width"}, "ui": at(640, 0)},
    }
    opened(desk, tmp_path, nodes)
    shown = desk.node("show")
    expect(shown.locator(".badge", has_text="left out")).to_be_visible()
    expect(desk.page.locator('[data-result="show"]')).to_contain_text("is bypassed")
    expect(desk.page.locator(".count.bad")).to_have_text("1")
    desk.press("e")
    expect(desk.page.locator(".problem")).to_contain_text("It is left out of runs")
    desk.node("text").locator(".node-head").click()
    desk.press("Control+b")
    expect(desk.page.locator(".problem")).to_have_count(0)
    expect(desk.page.locator('[data-result="show"]')).to_have_text("No result yet")


def test_titles_and_notes_are_edited_by_keyboard(desk: Desk, tmp_path: Path) -> None:
    group = {"id": "group:1", "x": -30, "y": -70, "width": 250, "height": 230, "title": "Both", "color": "#4d7a5b"}
    note = {"id": "note:1", "x": 0, "y": 330, "width": 280, "height": 140, "text": "Hello", "color": "#8a7a3a"}
    opened(desk, tmp_path, CHAIN, ui={"groups": [group], "notes": [note]})
    page = desk.page

    def rename(id: str, field: str, text: str) -> None:
        page.locator(f'.react-flow__node[data-id="{id}"]').focus()
        desk.press("Enter")
        desk.press("F2")
        box = page.get_by_role("textbox", name=field, exact=True)
        expect(box).to_be_focused()
        box.fill(text)
        desk.press("Escape" if id == "note:1" else "Enter")
        expect(box).to_be_hidden()
        expect(page.locator(f'.react-flow__node[data-id="{id}"]')).to_be_focused()

    rename("show", "Title of Show text", "Seen")
    rename("group:1", "Title of the group", "Ours")
    rename("note:1", "Text of the note", "**Bye**")
    doc = desk.document()
    assert doc["nodes"]["show"]["title"] == "Seen"
    assert doc["ui"]["groups"][0]["title"] == "Ours" and doc["ui"]["notes"][0]["text"] == "**Bye**"
    desk.node("text").locator(".node-head").click()
    for _ in range(8):
        desk.press("Alt+-")
        page.wait_for_timeout(150)
    expect(page.locator(".node.far").first).to_be_visible()
    desk.press("F2")  # from afar nobody could read it: one goes near
    expect(page.get_by_role("textbox", name="Title of Text", exact=True)).to_be_focused()


def test_a_picture_is_dragged_onto_the_canvas(desk: Desk, tmp_path: Path) -> None:
    nodes = {
        "image": {"type": "media.solid_image", "ui": at(0, 0)},
        "show": {"type": "media.preview_image", "links": {"image": "image.image"}, "ui": at(320, 0)},
        "load": {"type": "media.load_image", "ui": at(640, 0)},
        "sound": {"type": "media.load_audio", "ui": at(960, 0)},
    }
    opened(desk, tmp_path, nodes)
    desk.run()
    picture = desk.page.locator('[data-result="show"] img')
    picture.drag_to(desk.page.locator(".react-flow__pane"), target_position={"x": 400, "y": 780})
    expect(desk.node("load_image")).to_be_visible()
    picture.drag_to(desk.node("load").locator(".node-title"))
    picture.drag_to(desk.node("sound").locator(".node-title"))  # nothing that it could be there
    picture.drag_to(desk.node("show").locator(".node-title"))
    after = desk.document()["nodes"]
    assert set(after) == {*nodes, "load_image"}
    file = after["load_image"]["values"]["file"]
    assert file.startswith("temp/") and after["load"]["values"]["file"] == file
    assert not after["sound"].get("values")
    desk.press("Control+z")
    desk.press("Control+z")
    assert set(desk.document()["nodes"]) == set(nodes)
