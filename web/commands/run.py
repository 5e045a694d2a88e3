"""`anyloom run`: one workflow, its inputs from the command line, its results in a folder."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import NotFoundError
from graph_engine.graph.document import parse
from graph_engine.graph.subgraph import TYPE, entry_at
from web import parcel
from web.commands.flags import settings_of
from web.commands.progress import describe, display
from web.commands.session import Session, opened

EXIT_CODES = {"succeeded": 0, "partial": 2, "cancelled": 130}
EXIT_FAILED = 1


async def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    async with opened(arguments, settings) as session:
        document = await find(session, arguments.workflow)
        values = await literals(session, document, arguments.set)
        arguments.out.mkdir(parents=True, exist_ok=True)  # before hours of work whose files could not be written
        id = await session.submit(document, values, arguments.name)
        with display(arguments.plain) as shown, cancelling(session, id):
            async for event in session.events(id):
                shown.show(event)
        result = await session.result(id)
        if arguments.timeline is not None:
            arguments.timeline.write_text(json.dumps(await session.timeline(id)), encoding="utf-8")
        if result.text:
            print(result.text)
        for path in await session.save(result, arguments.out):
            print(path)
        if not arguments.plain or result.errors:
            for error in result.errors:
                where = ".".join(filter(None, (error.get("node"), error.get("port"))))
                print(f"error: {where + ': ' if where else ''}{describe(error)}", file=sys.stderr)
        return EXIT_CODES.get(result.status, EXIT_FAILED)


async def find(session: Session, workflow: str) -> Mapping[str, Any]:
    """The workflow of a file that is there, else of that name."""
    path = Path(workflow)
    if path.suffix.lower() == ".json" and path.is_file():
        return parse(path.read_bytes(), max_bytes=1 << 26).raw
    if path.suffix.lower() == parcel.SUFFIX and path.is_file():
        return await session.unpack(path)
    if path.is_file():
        from nodes.media.workflow_metadata import read_workflow

        found = await asyncio.to_thread(read_workflow, path)
        if found is None:
            raise NotFoundError(
                f"{workflow} holds no workflow.",
                remedy="Give a .json file, a saved workflow's name or a media file made by Anyloom.",
            )
        return found
    if path.suffix.lower() == ".json":
        raise NotFoundError(
            f"there is no file {workflow!r}.", remedy="Check the path, or give a saved workflow's name."
        )
    return await session.workflow(workflow)


async def literals(session: Session, document: Mapping[str, Any], settings: list[Any]) -> dict[str, Any]:
    """`--set` as {"node.input": literal}; files are brought in on the way."""
    if not settings:
        return {}
    types = {type["id"]: {port["name"]: port["kind"] for port in type["inputs"]} for type in await session.nodes()}
    for name, subgraph in document.get("subgraphs", {}).items():
        types[f"{TYPE}{name}"] = {port["name"]: port["kind"] for port in subgraph.get("inputs", ())}
    values: dict[str, Any] = {}
    for setting in settings:
        if setting.upload is not None:
            values[setting.name] = await session.upload(setting.upload)
            continue
        node, _, port = setting.name.partition(".")
        entry = entry_at(document, node)
        values[setting.name] = setting.literal(types.get(entry.get("type"), {}).get(port, ""))
    return values


@contextlib.contextmanager
def cancelling(session: Session, id: str) -> Any:
    """Ctrl-C cancels the run and waits for its end; a second one leaves at once."""
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Task[bool]] = []

    def interrupt() -> None:
        if asked:
            os._exit(130)
        asked.append(asyncio.ensure_future(session.cancel(id)))

    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
