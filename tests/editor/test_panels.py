"""Sweeps, comparisons, sharing and the library, used as a person uses them."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.editor.desk import Desk

PICTURES = os.environ.get("ANYLOOM_PICTURES")


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
    expect(cells).to_have_count(6, timeout=90_000)
    expect(sheet.locator(".cell img")).to_have_count(6)
    sheet.get_by_role("button", name="Larger").click()
    look(desk, "sweep")
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
