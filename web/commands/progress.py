"""How a run is shown while it goes on: bars on a terminal, plain lines elsewhere. All of it on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, TextIO

from graph_engine.execute.events import is_part

Event = Mapping[str, Any]


class Display(Protocol):
    def show(self, event: Event) -> None: ...
    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def line(event: Event) -> str:
    """One event in a line; empty for those that need none."""
    node = event.get("node", "")
    match event["type"]:
        case "started":
            return f"started   {event.get('nodes', '?')} nodes"
        case "cached":
            names = ", ".join(event["nodes"][:8]) + (" ..." if len(event["nodes"]) > 8 else "")
            return f"cached    {len(event['nodes'])} nodes: {names}"
        case "running":
            return f"running   {node}"
        case "progress":
            return f"progress  {node}  {event['done']:g}/{event['total']:g} {event.get('message', '')}".rstrip()
        case "done":
            return f"done      {node}  {event.get('ms', 0):.0f} ms"
        case "skipped":
            return f"skipped   {node}  {event.get('message', '')}".rstrip()
        case "grown":
            return f"grown     {node}  {len(event['nodes'])} nodes"
        case "retrying":
            return f"retrying  {node}  {describe(event['error'])}"
        case "failed":
            return f"failed    {node}  {describe(event['error'])}"
        case "blocked":
            return f"blocked   {node}  by {event.get('by', '')}"
        case "cancelled":
            return f"cancelled {node}"
        case "log":
            return f"log       {node}  {event['message']}"
        case "finished":
            return f"{event['status']} after {event.get('seconds', 0):.2f} s"
    return ""


def describe(error: Any) -> str:
    if not isinstance(error, Mapping):
        return str(error)
    return f"{error.get('message', '')} {error.get('remedy', '')}".strip()


class PlainLines:
    """For logs and pipes. Streamed text is written on a line of its own while it comes."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.streaming = ""
        self.quarters: dict[str, int] = {}

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_stream()

    def show(self, event: Event) -> None:
        if event["type"] == "chunk":
            if self.streaming != event["node"]:
                self._end_stream()
                self.out.write(f"text      {event['node']}  ")
                self.streaming = event["node"]
            self.out.write(str(event.get("text", "")))
            self.out.flush()
        elif (text := line(event)) and not self._too_much(event):
            self._end_stream()
            print(text, file=self.out, flush=True)

    def _too_much(self, event: Event) -> bool:
        """Of progress only every quarter, and none while the node's own text is being written."""
        if event["type"] != "progress":
            return False
        node, quarter = event["node"], int(4 * event["done"] / event["total"]) if event["total"] else 0
        seen, self.quarters[node] = self.quarters.get(node, 0), quarter
        return quarter == seen or self.streaming == node

    def _end_stream(self) -> None:
        if self.streaming:
            self.out.write("\n")
            self.streaming = ""


class Bars:
    """For terminals: one bar for the run, one for each node at work (the first few), streamed text above them."""

    MOST = 12

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=Console(file=out),
            transient=True,
        )
        self.whole = self.progress.add_task("run", total=None, note="")
        self.bars: dict[str, Any] = {}
        self.text: dict[str, str] = {}
        self.grown: set[str] = set()

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self.text):
            self._flush(node)
        self.progress.stop()

    def show(self, event: Event) -> None:
        type, node = event["type"], event.get("node", "")
        if type == "started":
            self.progress.update(self.whole, total=event.get("nodes"))
        elif type == "cached":
            self.progress.advance(self.whole, len(event["nodes"]))
        elif type == "running" and len(self.bars) < self.MOST and node not in self.bars:
            self.bars[node] = self.progress.add_task(f"  {_plain(node)}", total=None, note="")
        elif type == "progress" and node in self.bars:
            self.progress.update(
                self.bars[node], completed=event["done"], total=event["total"], note=_plain(event.get("message", ""))
            )
        elif type == "chunk":
            self.text[node] = self.text.get(node, "") + str(event.get("text", ""))
            self.progress.update(self.bars.get(node, self.whole), note=_plain(self.text[node][-60:].replace("\n", " ")))
        elif type in ("done", "skipped", "failed", "blocked", "cancelled", "grown"):
            if node in self.bars:
                self.progress.remove_task(self.bars.pop(node))
            self._flush(node)
            if type == "grown":
                self.grown.add(node)
            self.progress.advance(self.whole, 0 if type == "grown" or is_part(node, self.grown) else 1)
        if type in ("done", "skipped", "failed", "blocked", "log", "retrying"):
            style = {"failed": "red", "retrying": "yellow", "done": "green"}.get(type, "dim")
            self.progress.console.print(line(event), style=style, markup=False, highlight=False)

    def _flush(self, node: str) -> None:
        if text := self.text.pop(node, ""):
            self.progress.console.print(f"{node}: {text}", markup=False, highlight=False)


def _plain(text: str) -> str:
    """Text that rich does not read as markup."""
    return text.replace("[", r"\[")


def display(plain: bool = False) -> Display:
    return PlainLines(sys.stderr) if plain or not sys.stderr.isatty() else Bars(sys.stderr)
