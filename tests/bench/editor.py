"""`make bench-editor`: how fast the editor is, in headless Chromium, without a GPU. The numbers are those of the frames of
the browser while a real pointer pans, zooms and drags: pointer events are made once per frame, as a mouse makes them.

    first paint, bundle size · frames per second with 300 and 600 nodes, near and with everything in view · the slowest of
    20 frames while a node is dragged · the longest frame under 1,000 progress events per second · memory after 50 loads

Where `comfyui-frontend-package` is installed, the official editor of ComfyUI is measured beside it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, expect, sync_playwright

from tests.bench import official_editor
from tests.bench.frames import dragged, fps, frames
from tests.editor.conftest import CHROMIUM, FLAGS
from tests.editor.desk import Desk
from tests.editor.serving import Serving
from web.routes.home import EDITOR

PACK = Path(__file__).parent / "pack"
LOADS = 50

GOALS = {
    300: {"pan": ">= 40", "zoom": ">= 40", "drag one": "p95 <= 34 ms"},
    600: {"pan": ">= 45", "pan with all in view": ">= 25"},
}

Row = tuple[str, str, str, str]
"""What was measured, of this editor, its goal, and of the official one."""

HAND = """what => {
    const pane = document.querySelector('.react-flow__pane');
    const head = [...document.querySelectorAll('.react-flow__node-step .node-head')].find(one => {
        const box = one.getBoundingClientRect(); return box.x > 100 && box.right < 1400 && box.y > 80 && box.bottom < 800; });
    const box = head?.getBoundingClientRect();
    const start = what === 'drag' ? [box.x + box.width / 2, box.y + box.height / 2] : [750, 450];
    const fire = (target, type, x, y) => target.dispatchEvent(new MouseEvent(type,
        {bubbles: true, cancelable: true, view: window, clientX: x, clientY: y, buttons: type === 'mouseup' ? 0 : 1}));
    const wheel = by => pane.dispatchEvent(new WheelEvent('wheel',
        {bubbles: true, cancelable: true, clientX: 750, clientY: 450, deltaY: by}));
    const holds = what !== 'zoom' && what !== 'watch';
    return {
        begin: () => { if (holds) fire(what === 'drag' ? head : pane, 'mousedown', ...start); },
        move: turn => {
            if (what === 'zoom') wheel(Math.sin(turn) * 40);
            else if (holds) fire(window, 'mousemove', start[0] + Math.sin(turn) * 320, start[1] + Math.cos(turn) * 160 - 160);
        },
        end: () => { if (holds) { fire(window, 'mousemove', ...start); fire(window, 'mouseup', ...start); } },
    };
}"""


def graph(count: int) -> dict[str, Any]:
    """A grid of nodes with three sockets and three fields each, and 1.6 links per node."""
    nodes: dict[str, Any] = {}
    for number in range(count):
        links = {"image": f"n{number - 1}.image"} if number else {}
        if number > 25 and number % 5 < 3:
            links["mask"] = f"m{number % 25}.mask"
        nodes[f"n{number}"] = {
            "type": "media.composite_images",
            "values": {"x": number, "y": 2, "opacity": 0.5},
            "links": {key.replace("image", "below"): value for key, value in links.items()},
            "ui": {"x": number % 25 * 330, "y": number // 25 * 330},
        }
    for number in range(25):
        nodes[f"m{number}"] = {
            "type": "media.image_to_mask",
            "links": {"image": f"n{number}.image"},
            "ui": {"x": number * 330, "y": -260},
        }
    return {
        "format": "anyloom",
        "version": 1,
        "title": f"{count} nodes",
        "nodes": dict(list(nodes.items())[: count + 25]),
    }


def main() -> None:
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: `make chromium`")
    rows: list[Row] = [("", "this editor", "its goal", "official editor")]
    script, style = next(EDITOR.glob("assets/index-*.js")), next(EDITOR.glob("assets/index-*.css"))
    size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in (script, style))
    rows.append(("bundle before lazy parts", f"{size / 1000:.0f} kB gzipped", "<= 350 kB", ""))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        serving = Serving(Path(folder) / "data", "--custom-nodes", str(PACK))
        serving.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--enable-precise-memory-info"])
        try:
            for _ in range(2):  # the second time the server has read its files
                context = browser.new_context(viewport={"width": 1600, "height": 900})
                desk = Desk(context.new_page(), serving.url).open()
                desk.page.wait_for_timeout(1500)
                paint = desk.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            rows.append(("first paint", f"{paint:.0f} ms", "<= 1000 ms", ""))
            ours = {count: measure(desk, Path(folder), count) for count in GOALS}
            last = [flood(desk, Path(folder)), memory(desk, Path(folder))]
            desk.page.close()
            theirs = official_editor.measure(browser, {count: graph(count) for count in GOALS})
        finally:
            browser.close()
            serving.stop()
    for count, goals in GOALS.items():
        for what, value in ours[count].items():
            rows.append((f"{count} nodes, {what}", value, goals.get(what, ""), theirs.get(count, {}).get(what, "-")))
    rows += last
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    if not theirs:
        print(f"\n{official_editor.GET_IT}")
    print(f"\n{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {script.name}")


def open_graph(desk: Desk, folder: Path, count: int) -> None:
    path = folder / f"{count}.json"
    path.write_text(json.dumps(graph(count)))
    desk.drop(path)
    expect(desk.page.locator(".tab.now")).to_contain_text(f"{count} nodes")
    desk.page.wait_for_timeout(700)


def measure(desk: Desk, folder: Path, count: int) -> dict[str, str]:
    open_graph(desk, folder, count)
    page = desk.page
    desk.press(".")
    page.wait_for_timeout(600)
    everything = fps(page, HAND, "pan")
    for _ in range(12):
        desk.press("Alt+=")
        page.wait_for_timeout(160)
        if int(page.locator(".zoom span").inner_text().split()[0]) >= 90:
            break
    near = fps(page, HAND, "pan")
    zoom = fps(page, HAND, "zoom")
    for _ in range(20):
        shown = int(page.locator(".zoom span").inner_text().split()[0])
        if 60 <= shown <= 130:
            break
        desk.press("Alt+=" if shown < 60 else "Alt+-")
        page.wait_for_timeout(160)
    return {"pan": near, "zoom": zoom, "pan with all in view": everything, "drag one": dragged(page, HAND)}


def flood(desk: Desk, folder: Path) -> Row:
    """Ten nodes that say progress a hundred times a second each."""
    nodes = {
        f"p{number}": {
            "type": "bench.progress",
            "values": {"count": 400, "number": number},
            "ui": {"x": number * 300, "y": 0},
        }
        for number in range(10)
    }
    path = folder / "flood.json"
    path.write_text(json.dumps({"format": "anyloom", "version": 1, "title": "Flood", "nodes": nodes}))
    desk.drop(path)
    expect(desk.page.locator(".tab.now")).to_contain_text("Flood")
    desk.page.wait_for_timeout(700)
    desk.press("Control+Enter")
    expect(desk.page.locator(".node.running").first).to_be_visible()
    longest = max(frames(desk.page, HAND, "watch"))
    desk.ended()
    return ("1,000 progress events per second", f"longest frame {longest:.0f} ms", "<= 50 ms", "")


def memory(desk: Desk, folder: Path) -> Row:
    session = desk.page.context.new_cdp_session(desk.page)
    first = 0.0
    for number in range(LOADS):
        open_graph(desk, folder, 300)
        desk.press("Alt+w")
        desk.page.wait_for_timeout(50)
        if number == 0:
            first = heap(session)
    last = heap(session)
    return (
        f"heap after {LOADS} loads of 300 nodes",
        f"{last:.1f} MB, after the first {first:.1f} MB",
        "within 20 %",
        "",
    )


def heap(session: CDPSession) -> float:
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
        time.sleep(0.2)
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    return used / 1e6


if __name__ == "__main__":
    main()
