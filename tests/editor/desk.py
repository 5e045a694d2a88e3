"""Desk: the editor in a browser, used as a person uses it: by mouse and keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

SETTINGS = {"tourDone": True, "lang": "en", "theme": "dark", "snap": False}


class Desk:
    """`faults` are what went wrong in the page itself; a test ends by asking that there are none."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self._heard(line.type, line.text))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.set_default_timeout(20_000)

    def _heard(self, kind: str, text: str) -> None:
        if (kind == "error" and "Content Security Policy" in text) or "Warning:" in text:
            self.faults.append(text)

    def open(self, **settings: Any) -> Desk:
        text = json.dumps(json.dumps({**SETTINGS, **settings}))
        self.page.add_init_script(
            f"if (!localStorage.getItem('anyloom.settings')) localStorage.setItem('anyloom.settings', {text})"
        )
        self.page.goto(self.url)
        expect(self.page.locator(".run")).to_be_enabled()
        return self

    # what there is ---------------------------------------------------------------------------------------------------

    def node(self, id: str) -> Locator:
        return self.page.locator(f'[data-node="{id}"]')

    def socket(self, id: str, handle: str) -> Locator:
        return self.node(id).locator(f'[data-handleid="{handle}"]')

    @property
    def nodes(self) -> int:
        return self.page.locator("[data-node]").count()

    def document(self) -> dict[str, Any]:
        """The active workflow, as `Download as JSON` writes it."""
        with self.page.expect_download() as found:
            self.command("Download as JSON")
        path = found.value.path()
        return json.loads(Path(path).read_text(encoding="utf-8"))

    # what is done ----------------------------------------------------------------------------------------------------

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)

    def command(self, name: str) -> None:
        self.press("Control+k")
        self.page.get_by_role("combobox", name="All commands").fill(name)
        self.press("Enter")

    def add(self, x: float, y: float, words: str) -> None:
        """A double click on the canvas, a few letters, Enter."""
        self.page.mouse.dblclick(x, y)
        self._choose(words)

    def _choose(self, words: str) -> None:
        box = self.page.get_by_role("combobox", name="Add a node")
        box.fill(words)
        box.press("Enter")
        expect(box).to_be_hidden()

    def link(self, source: str, output: str, target: str, input: str) -> None:
        self._draw(self.socket(source, f"o:{output}"), self.socket(target, f"i:{input}"))

    def link_new(self, source: str, output: str, x: float, y: float, words: str) -> None:
        """A link that is dropped on the canvas, and the node that is chosen for it."""
        box = self._middle(self.socket(source, f"o:{output}"))
        self.page.mouse.move(*box)
        self.page.mouse.down()
        self.page.mouse.move(x - 20, y, steps=4)
        self.page.mouse.move(x, y, steps=2)
        self.page.mouse.up()
        self._choose(words)

    def _draw(self, start: Locator, end: Locator) -> None:
        self.page.mouse.move(*self._middle(start))
        self.page.mouse.down()
        x, y = self._middle(end)
        self.page.mouse.move(x - 30, y + 4, steps=4)
        self.page.mouse.move(x, y, steps=2)
        self.page.mouse.up()

    @staticmethod
    def _middle(part: Locator) -> tuple[float, float]:
        box = part.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drop(self, *files: Path) -> None:
        """Files from the desktop onto the canvas."""
        payload = [{"name": path.name, "data": list(path.read_bytes())} for path in files]
        transfer = self.page.evaluate_handle(
            """files => { const all = new DataTransfer();
                for (const file of files) all.items.add(new File([new Uint8Array(file.data)], file.name));
                return all; }""",
            payload,
        )
        self.page.dispatch_event(
            ".react-flow__pane", "drop", {"dataTransfer": transfer, "clientX": 700, "clientY": 400, "bubbles": True}
        )

    def run(self, status: str = "succeeded", timeout_s: float = 40) -> None:
        before = self.page.locator(".outcome").get_attribute("data-run")
        self.press("Control+Enter")
        expect(self.page.locator(".outcome")).not_to_have_attribute("data-run", before or "")
        self.ended(status, timeout_s)

    def ended(self, status: str = "succeeded", timeout_s: float = 40) -> None:
        expect(self.page.locator(f".outcome.{status}")).to_be_visible(timeout=timeout_s * 1000)
