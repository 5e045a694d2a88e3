"""What people do with the editor, from an empty canvas to a result, in a real browser against a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import expect

from tests.editor.desk import Desk
from tests.editor.serving import Serving


def test_text_to_image_from_an_empty_canvas(desk: Desk) -> None:
    desk.open()
    for _ in range(2):
        desk.press("Alt+-")
        desk.page.wait_for_timeout(250)
    desk.add(120, 100, "load next")
    desk.add(120, 420, "conversation")
    desk.node("conversation").get_by_role("textbox").fill("A red boat")
    desk.link_new("conversation", "conversation", 360, 420, "reason")
    desk.link("load", "language_model", "reason", "model")
    desk.node("reason").get_by_role("button", name="nextgpt.reason image: auto").click()
    desk.page.get_by_role("option", name="always").click()
    desk.link_new("reason", "generation", 600, 480, "route")
    desk.link_new("route", "image", 830, 300, "project out")
    desk.link("load", "image_projector", "project_out", "projector")
    desk.link_new("project_out", "conditioning", 1060, 300, "decode image")
    desk.link("load", "image_decoder", "decode_image", "decoder")
    desk.link_new("decode_image", "image", 1280, 300, "save image")
    steps = desk.node("decode_image").get_by_role("spinbutton", name="nextgpt.decode_image steps")
    steps.click()
    desk.page.keyboard.type("20*3")
    desk.press("Enter")
    expect(steps).to_have_attribute("aria-valuenow", "60")
    desk.page.locator(".react-flow__pane").click(position={"x": 30, "y": 760})
    desk.run(timeout_s=90)  # the first run makes the models
    picture = desk.page.locator('[data-result="save_image"] img')
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") == 64
    expect(desk.page.locator('[data-result="decode_image"] img')).to_be_visible()  # the last of its previews
    desk.run()
    expect(desk.node("decode_image").get_by_text("cached")).to_be_visible()
    expect(desk.page.locator('[data-result="decode_image"] img')).to_be_visible()  # it goes on showing it


def test_two_turns_with_any_to_any(desk: Desk) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Any to any").click()
    expect(desk.node("think")).to_be_visible()
    desk.press("c")
    box = desk.page.get_by_role("textbox", name="Message")
    replies = desk.page.locator(".reply")
    for turn, text in enumerate(("Draw a red star.", "Now make it blue.")):
        box.fill(text)
        box.press("Enter")
        expect(replies.nth(turn).locator("summary")).to_be_visible(timeout=40_000)
        expect(replies.nth(turn).locator("img.picture:not(.live)")).to_be_visible()
        expect(replies.nth(turn).get_by_role("button", name="Play")).to_be_visible()
        expect(replies.nth(turn).locator("video")).to_be_visible()
        replies.nth(turn).locator("summary").click()
        fact = replies.nth(turn).locator(".trace li.image", has_text="picture 1 at token")
        expect(fact.locator("meter")).to_be_visible()  # how sure it was
        desk.ended()
    assert "chat_save" not in desk.document()["nodes"]  # the history was added for the runs alone
    desk.page.reload()
    expect(desk.node("think")).to_be_visible()
    desk.press("c")
    expect(replies).to_have_count(2)
    expect(replies.first.locator("img.picture:not(.live)")).to_be_visible()


def test_a_broken_link_is_told_on_the_node_and_led_to(desk: Desk) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to image").click()
    link = desk.page.locator('.react-flow__edge[data-id="draw.decoder"]')
    link.focus()
    desk.press("Enter")
    desk.press("Delete")
    expect(link).to_have_count(0)
    desk.press("Control+Enter")
    problem = desk.page.locator(".problem", has_text="decoder is missing")
    expect(problem).to_contain_text("Link an output of kind DECODER")
    problem.get_by_role("button").first.click()
    expect(desk.node("draw")).to_have_class(re.compile("selected"))
    expect(desk.node("draw")).to_have_class(re.compile("wrong"))
    desk.press("Escape")
    desk.press("Control+z")
    expect(desk.page.locator(".problem")).to_have_count(0)


def test_a_picture_leads_back_to_its_workflow(desk: Desk, serving: Serving, tmp_path: Path) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to image").click()
    expect(desk.node("save_draw")).to_be_visible()
    desk.run()
    made = max((serving.data_dir / "output").glob("picture_*.png"), key=lambda path: path.stat().st_mtime)
    before = desk.document()
    plain = tmp_path / "notes.json"
    plain.write_text("[1, 2]")
    desk.drop(plain)
    expect(desk.page.get_by_text("A workflow is a JSON object.")).to_be_visible()
    desk.drop(made)
    expect(desk.page.locator(".tab")).to_have_count(2)
    after = desk.document()
    assert {id: node["type"] for id, node in after["nodes"].items()} == {
        id: node["type"] for id, node in before["nodes"].items()
    }
    assert after["nodes"]["prompt"]["values"] == before["nodes"]["prompt"]["values"]
    sample = serving.data_dir / "input" / "lighthouse.png"
    desk.drop(sample)
    expect(desk.node("load_image")).to_be_visible()


def test_the_server_is_lost_in_the_middle_of_a_run(desk: Desk, serving: Serving) -> None:
    desk.open()
    chain = {
        "text": {"type": "control.text", "values": {"value": "here again"}, "ui": {"x": 0, "y": 0}},
        "wait": {
            "type": "control.sleep",
            "values": {"seconds": 2.5},
            "links": {"value": "text.text"},
            "ui": {"x": 300, "y": 0},
        },
        "show": {"type": "media.show_text", "links": {"text": "wait.value"}, "ui": {"x": 600, "y": 0}},
    }
    path = serving.data_dir.parent / "wait.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "title": "Wait", "nodes": chain}))
    desk.drop(path)
    expect(desk.node("wait")).to_be_visible()
    desk.press("Control+Enter")
    expect(desk.page.locator('[data-node="wait"].running')).to_be_visible()
    serving.kill()
    expect(desk.page.get_by_text("The server does not answer")).to_be_visible()
    desk.node("text").get_by_role("textbox").fill("typed meanwhile")  # work goes on
    serving.start()
    desk.ended(timeout_s=60)
    expect(desk.page.locator('[data-result="show"]')).to_have_text("here again")
    expect(desk.page.get_by_text("The server does not answer")).to_be_hidden()
    desk.page.reload()
    expect(desk.page.locator('[data-result="show"]')).to_have_text("here again")  # results survive a reload
    expect(desk.node("text").get_by_role("textbox")).to_have_value("typed meanwhile")  # and so does work


def test_twenty_steps_are_undone_and_done_again(desk: Desk) -> None:
    desk.open()
    desk.page.get_by_role("button", name="Text to image").click()
    expect(desk.node("draw")).to_be_visible()
    start = desk.document()
    head = desk.node("draw").locator(".node-head")
    head.click()
    steps = [
        "Control+m",
        "Control+m",
        "Control+b",
        "Alt+c",
        "Alt+c",
        "Control+d",
        "Control+g",
        "Shift+N",
        "Control+a",
        "p",
    ]
    for key in [*steps, *steps]:
        desk.press(key)
    end = desk.document()
    assert end != start
    assert len(end["ui"]["groups"]) >= 2
    for _ in range(20):
        desk.press("Control+z")
    assert desk.document() == start
    for _ in range(20):
        desk.press("Control+y")
    assert desk.document() == end
