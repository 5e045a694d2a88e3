"""Commands that only look: nodes, workflows, runs, inspect; and cancel, which touches one run."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.client import AsyncClient, Result
from graph_engine.errors import NotFoundError, RequestError
from graph_engine.graph.registry import Registry
from web.commands.flags import settings_of
from web.commands.progress import describe
from web.library import Library


async def nodes(arguments: argparse.Namespace) -> int:
    """All node types, or one with its ports."""
    registry = Registry.discover(settings_of(arguments).custom_nodes)
    if arguments.json:
        found = [registry[arguments.node]] if arguments.node else registry
        print(json.dumps([type.to_dict() for type in found], indent=2))
        return 0
    if arguments.node:
        _show_node(registry[arguments.node].to_dict())
        return 0
    width = max((len(type.id) for type in registry), default=0)
    for type in sorted(registry, key=lambda type: (type.category, type.id)):
        print(f"{type.id:{width}}  {type.description.partition(chr(10))[0]}")
    for pack, reason in registry.failures.items():
        print(f"pack {pack!r} is not available: {reason}")
    return 0


def _show_node(type: dict[str, Any]) -> None:
    print(f"{type['id']}  version {type['version']}  ({type['category']})")
    if type["description"]:
        print(f"\n{type['description']}")
    ports = [*type["inputs"], *([{**type["more"], "name": "..."}] if type["more"] else [])]
    print("\ninputs" if ports else "\nno inputs")
    width = max((len(port["name"]) for port in (*ports, *type["outputs"])), default=0)
    for port in ports:
        default = "required" if port["required"] else f"default {json.dumps(port.get('default'), default=str)}"
        widget = port.get("widget", {})
        allowed = "one of " + ", ".join(widget["options"]) if "options" in widget else ""
        if "min" in widget or "max" in widget:
            allowed = f"{widget.get('min', '')}..{widget.get('max', '')}"
        print(f"  {port['name']:{width}}  {port['kind']:16} {default}{', ' + allowed if allowed else ''}")
    print("outputs" if type["outputs"] else "no outputs")
    for port in type["outputs"]:
        print(f"  {port['name']:{width}}  {port['kind']}{' (list)' if port.get('as_list') else ''}")


async def workflows(arguments: argparse.Namespace) -> int:
    """Saved workflows and the inputs that they ask for."""
    if arguments.server:
        async with AsyncClient(arguments.server, arguments.token) as client:
            entries = await client.workflows()
    else:
        entries = Library.of(settings_of(arguments)).entries()
    for entry in entries:
        print(f"{entry['name']}  {entry['title']}" + (f"  [{entry['error']}]" if entry.get("error") else ""))
        if entry["description"]:
            print(f"    {entry['description']}")
        for ask in entry["asks"]:
            print(f"    --set {ask['node']}.{ask['input']}=...  {ask['label']}")
    if not entries:
        print("no workflow is saved yet.")
    return 0


async def runs(arguments: argparse.Namespace) -> int:
    """The latest runs of a server, or one of them, or its timeline."""
    if arguments.run is None and arguments.timeline is not None:
        raise RequestError("a timeline is of one run.", remedy="anyloom runs ID --timeline FILE", code="bad_field")
    if arguments.run is not None and arguments.timeline is None:
        async with AsyncClient(arguments.server, arguments.token) as client:
            result = await client.result(arguments.run)
        _show_run(result)
        return 0
    if arguments.run is not None:
        async with AsyncClient(arguments.server, arguments.token) as client:
            trace = await client.timeline(arguments.run)
        arguments.timeline.write_text(json.dumps(trace), encoding="utf-8")
        print(f"wrote {arguments.timeline}; open it in chrome://tracing or in Perfetto.")
        return 0
    async with AsyncClient(arguments.server, arguments.token) as client:
        found = await client.runs(limit=arguments.limit, status=arguments.status)
    for run in found:
        print(
            f"{run['number']:6}  {run['id']}  {run['status']:9}  {_at(run['created'])}  {_took(run):10}  {run['name']}".rstrip()
        )
    if not found:
        print("no runs.")
    return 0


def _show_run(result: Result) -> None:
    run = result.record
    print(f"{run['id']}  {run['status']}  {run['name']}".rstrip())
    facts = {
        "number": str(run["number"]),
        "nodes": str(run["nodes"]),
        "client": run["client"],
        "priority": str(run["priority"] or ""),
        "paused at": ", ".join(run["paused"]),
        **{name: _at(run[name]) for name in ("created", "started", "finished") if run[name]},
        "took": _took(run).strip(),
    }
    for name, fact in facts.items():
        if fact:
            print(f"  {name:9}  {fact}")
    for error in result.errors:
        where = ".".join(filter(None, (error.get("node"), error.get("port"))))
        print(f"error: {where + ': ' if where else ''}{describe(error)}")
    for node, ports in result.outputs.items():
        for port, value in ports.items():
            for one in value if isinstance(value, list) and value else [value]:
                print(f"{node}.{port}: {_told(one)}")


def _told(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("file"), dict):
        return f"{value['file']['folder']}/{value['file']['name']}"
    if isinstance(value, dict) and "artifact" in value:
        return f"{value['summary']} (artifact {value['artifact']})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _took(run: Mapping[str, Any]) -> str:
    started, finished = run["started"], run["finished"]
    return f"{max(0.0, finished - started):8.2f} s" if started and finished else ""


async def cancel(arguments: argparse.Namespace) -> int:
    async with AsyncClient(arguments.server, arguments.token) as client:
        done = await client.cancel(arguments.run)
    print("cancelled." if done else "it had ended already.")
    return 0


async def inspect(arguments: argparse.Namespace) -> int:
    """The workflow inside a media file."""
    from nodes.media.workflow_metadata import read_workflow

    path = Path(arguments.file)
    if not path.is_file():
        raise NotFoundError(f"there is no file {arguments.file!r}.", remedy="Check the path.", code="file_not_found")
    found = read_workflow(path)
    if found is None:
        raise NotFoundError(
            f"{arguments.file} holds no workflow.",
            remedy="Only media that Anyloom saved carry theirs.",
            code="no_workflow",
        )
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0
