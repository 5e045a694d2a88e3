"""One server on the tiny models for all scenarios, a browser for each file; every test has a profile of its own.

Playwright keeps an event loop running in the thread that uses it, so it must be gone before other tests want theirs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from tests.editor.desk import Desk
from tests.editor.serving import Serving
from web.routes.home import EDITOR

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PICTURES = os.environ.get("ANYLOOM_PICTURES")
"""Where scenarios leave what they saw, for people to look at."""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: `make chromium`")
    if not (EDITOR / "index.html").is_file():
        pytest.skip("the editor was not built: `make editor`")
    expect.set_options(timeout=20_000)
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("editor") / "data")
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture
def desk(browser: Browser, serving: Serving, request: pytest.FixtureRequest) -> Iterator[Desk]:
    context = browser.new_context(
        viewport={"width": 1500, "height": 900},
        accept_downloads=True,
        permissions=["clipboard-read", "clipboard-write"],
    )
    desk = Desk(context.new_page(), serving.url)
    yield desk
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        desk.page.screenshot(path=str(Path(PICTURES, f"{request.node.name}.png")))
    context.close()
    assert desk.faults == []
