"""The official editor of ComfyUI, measured beside ours: the same graph, the same hand, the same counting of frames.

It is a program of others (GPL-3.0-only) and no part of Anyloom: it is measured where somebody has installed it. A small
server gives it what it needs to start, and a few types of nodes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import threading
from pathlib import Path
from typing import Any, Self

from aiohttp import WSMsgType, web
from playwright.sync_api import Browser, Page

from tests.bench.frames import dragged, fps

PACKAGE = "comfyui_frontend_package"
GET_IT = "The official editor is not installed here: `pip install comfyui-frontend-package` has it measured too."

TYPES: dict[str, dict[str, dict[str, Any]]] = {
    "media.composite_images": {
        "sockets": {"below": "IMAGE", "above": "IMAGE", "mask": "MASK"},
        "fields": {"x": ("INT", 0), "y": ("INT", 0), "opacity": ("FLOAT", 1.0)},
        "outputs": {"image": "IMAGE"},
    },
    "media.image_to_mask": {
        "sockets": {"image": "IMAGE"},
        "fields": {"channel": (["red", "green", "blue", "alpha"], "red")},
        "outputs": {"mask": "MASK"},
    },
}
"""What nodes of the graph look like, as ours do."""

SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.0.0",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.VersionCompatibility.DisableWarnings": True,
    "Comfy.Workflow.ShowMissingNodesWarning": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.Persist": False,
    "Comfy.Canvas.NavigationMode": "legacy",
    "Comfy.Canvas.LeftMouseClickBehavior": "panning",
    "Comfy.Canvas.MouseWheelScroll": "zoom",
    "Comfy.VueNodes.Enabled": False,  # the faster of its two ways to draw nodes
    "Comfy.Minimap.Visible": True,  # as ours
    "Comfy.Graph.ZoomSpeed": 1.04,  # about as far as the same wheel takes ours
}

HAND = """what => {
    const { canvas } = window.app;
    const sheet = canvas.canvas;
    const box = sheet.getBoundingClientRect();
    const inView = node => {
        const [x, y] = canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] - 15]);
        return x > 100 && x < 1300 && y > 80 && y < 750 ? [box.x + x, box.y + y] : null;
    };
    const start = what === 'drag' ? window.app.graph.nodes.map(inView).find(Boolean) : [750, 450];
    const button = what === 'drag' ? 0 : 1;  // the middle one pans wherever it is pressed
    const fire = (type, x, y) => sheet.dispatchEvent(new PointerEvent(type, {bubbles: true, cancelable: true,
        view: window, pointerId: 1, pointerType: 'mouse', isPrimary: true, clientX: x, clientY: y,
        button: type === 'pointermove' ? -1 : button, buttons: type === 'pointerup' ? 0 : button ? 4 : 1}));
    const wheel = by => sheet.dispatchEvent(new WheelEvent('wheel',
        {bubbles: true, cancelable: true, clientX: 750, clientY: 450, deltaY: by}));
    return {
        begin: () => what === 'zoom' || fire('pointerdown', ...start),
        move: turn => what === 'zoom' ? wheel(Math.sin(turn) * 40)
            : fire('pointermove', start[0] + Math.sin(turn) * 320, start[1] + Math.cos(turn) * 160 - 160),
        end: () => what === 'zoom' || (fire('pointermove', ...start), fire('pointerup', ...start)),
    };
}"""

LOOK = """scale => {
    const { canvas, graph } = window.app;
    const right = Math.max(...graph.nodes.map(node => node.pos[0] + node.size[0]));
    const bottom = Math.max(...graph.nodes.map(node => node.pos[1] + node.size[1]));
    const top = Math.min(...graph.nodes.map(node => node.pos[1])) - 40;
    const { width, height } = canvas.canvas.getBoundingClientRect();
    canvas.ds.scale = scale ?? Math.min(width / right, height / (bottom - top)) * 0.9;
    canvas.ds.offset[0] = width / 2 / canvas.ds.scale - right / 2;
    canvas.ds.offset[1] = height / 2 / canvas.ds.scale - (top + bottom) / 2;
    canvas.setDirty(true, true);
}"""
"""Everything in view, or its middle at a scale."""


def folder() -> Path | None:
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.submodule_search_locations[0], "static") if found and found.submodule_search_locations else None


def workflow(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph of ours as the official editor keeps one: nodes and links in lists, sockets by their number."""
    numbers = {name: number for number, name in enumerate(graph["nodes"], 1)}
    links: list[list[Any]] = []
    nodes: dict[str, dict[str, Any]] = {}
    for name, node in graph["nodes"].items():
        kind = TYPES[node["type"]]
        nodes[name] = {
            "id": numbers[name],
            "type": node["type"],
            "pos": [node["ui"]["x"], node["ui"]["y"]],
            "size": [264, 40 + 26 * (len(kind["sockets"]) + len(kind["fields"]))],
            "flags": {},
            "order": numbers[name],
            "mode": 0,
            "inputs": [{"name": key, "type": what, "link": None} for key, what in kind["sockets"].items()],
            "outputs": [{"name": key, "type": what, "links": []} for key, what in kind["outputs"].items()],
            "properties": {},
            "widgets_values": [node.get("values", {}).get(key, other) for key, (_, other) in kind["fields"].items()],
        }
    for name, node in graph["nodes"].items():
        for input, text in node.get("links", {}).items():
            source, output = text.split(".")
            place = list(TYPES[node["type"]]["sockets"]).index(input)
            slot = list(TYPES[graph["nodes"][source]["type"]]["outputs"]).index(output)
            link = len(links) + 1
            links.append([link, numbers[source], slot, numbers[name], place, nodes[name]["inputs"][place]["type"]])
            nodes[name]["inputs"][place]["link"] = link
            nodes[source]["outputs"][slot]["links"].append(link)
    return {
        "version": 0.4,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
    }


def described(name: str) -> dict[str, Any]:
    """A type of node, as a ComfyUI server tells of it."""
    kind = TYPES[name]
    fields = {key: [what, {"default": other}] for key, (what, other) in kind["fields"].items()}
    inputs = {**{key: [what] for key, what in kind["sockets"].items()}, **fields}
    return {
        "name": name,
        "display_name": name.split(".")[1].replace("_", " ").capitalize(),
        "description": "",
        "category": "bench",
        "python_module": "nodes",
        "input": {"required": {}, "optional": inputs},
        "input_order": {"required": [], "optional": list(inputs)},
        "output": list(kind["outputs"].values()),
        "output_name": list(kind["outputs"]),
        "output_is_list": [False] * len(kind["outputs"]),
        "output_node": False,
    }


ANSWERS: dict[str, Any] = {
    "users": {"storage": "server", "migrated": True},
    "settings": SETTINGS,
    "object_info": {name: described(name) for name in TYPES},
    "extensions": [],
    "features": {},
    "i18n": {},
    "embeddings": [],
    "experiment/models": [],
    "global_subgraphs": {},
    "workflow_templates": {},
    "userdata": [],
    "prompt": {"exec_info": {"queue_remaining": 0}},
    "queue": {"queue_running": [], "queue_pending": []},
    "history": {},
    "jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
    "system_stats": {"system": {"os": "posix", "comfyui_version": "0", "argv": []}, "devices": []},
}


class Server:
    """What a ComfyUI server answers while nothing runs, in a thread of its own. What is not here is not found."""

    def __init__(self, static: Path) -> None:
        self.static = static
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self.thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_get("/ws", self._listen)
        app.router.add_route("*", "/api/{path:.*}", self._answer)
        app.router.add_get("/", self._start_page)
        app.router.add_static("/", self.static)
        self.runner = web.AppRunner(app, shutdown_timeout=1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}/"

    async def _start_page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self.static / "index.html")

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.Response()
        answer = ANSWERS.get(request.match_info["path"])
        return web.Response(status=404) if answer is None else web.json_response(answer)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "bench"}
        await socket.send_json({"type": "status", "data": status})
        async for message in socket:
            if message.type is WSMsgType.TEXT and "feature_flags" in message.data:
                await socket.send_json({"type": "feature_flags", "data": {}})
        return socket


def open_page(browser: Browser, url: str) -> Page:
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    context.set_default_timeout(120_000)
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("window.app?.graph && window.app.canvas && !document.getElementById('splash-loader')")
    page.mouse.move(750, 450)  # from here on there is a pointer
    return page


def measure(browser: Browser, graphs: dict[int, dict[str, Any]]) -> dict[int, dict[str, str]]:
    """What `tests.bench.editor` measures of ours; nothing where the program is not installed."""
    static = folder()
    if static is None:
        return {}
    with Server(static) as server:
        page = open_page(browser, server.url)
        seen = {count: measured(page, graph) for count, graph in graphs.items()}
        page.context.close()
        return seen


def measured(page: Page, graph: dict[str, Any]) -> dict[str, str]:
    page.evaluate("graph => window.app.loadGraphData(graph)", workflow(graph))
    page.wait_for_function("count => window.app.graph.nodes.length === count", arg=len(graph["nodes"]))
    page.wait_for_timeout(1500)
    page.evaluate(LOOK)
    everything = fps(page, HAND, "pan")
    page.evaluate(LOOK, 1)
    near, zoom = fps(page, HAND, "pan"), fps(page, HAND, "zoom")
    page.evaluate(LOOK, 1)
    return {"pan": near, "zoom": zoom, "pan with all in view": everything, "drag one": dragged(page, HAND)}
