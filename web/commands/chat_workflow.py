"""ChatWorkflow: a workflow that a chat can drive: which of its nodes take the message and the history, and which answer.

The nodes are found by their types, so any workflow will do that has one of each: `nextgpt.message`,
`nextgpt.load_conversation` and `nextgpt.save_conversation`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graph_engine.client import Result
from graph_engine.errors import NotFoundError
from web.commands.values import Setting

MESSAGE, HISTORY, SAVE = "nextgpt.message", "nextgpt.load_conversation", "nextgpt.save_conversation"
SPEAKER = "nextgpt.reason"
_TEXTS = (("nextgpt.assemble", "reply_text"), ("nextgpt.route", "text"))
_TRACES = (("nextgpt.route", "trace"),)


class ChatWorkflow:
    """`values` are the settings that hold for every turn: {"node.input": literal}."""

    def __init__(self, document: Mapping[str, Any], types: Iterable[Mapping[str, Any]]) -> None:
        self.document = document
        self.nodes: Mapping[str, Mapping[str, Any]] = document["nodes"]
        self.types = {type["id"]: type for type in types}
        self.values: dict[str, Any] = {}
        self.message, self.history, self.save = (self._only(type) for type in (MESSAGE, HISTORY, SAVE))
        self.reply, self.trace = self._shown(_TEXTS), self._shown(_TRACES)

    def _only(self, type: str) -> str:
        found = [id for id, node in self.nodes.items() if node["type"] == type]
        if len(found) != 1:
            raise NotFoundError(
                f"this workflow cannot be chatted with: it has {len(found) or 'no'} nodes of type {type}, a chat needs one.",
                remedy="Start from the workflow `chat`, which has all that is needed.",
                code="no_chat",
            )
        return found[0]

    def _shown(self, sources: Sequence[tuple[str, str]]) -> str:
        """The node that shows one of these outputs; empty if none does."""
        for type, output in sources:
            for id, node in self.nodes.items():
                for link in node.get("links", {}).values():
                    source, _, port = str(link).partition(".")
                    shows = self.types.get(node["type"], {}).get("output", True)
                    if self.nodes.get(source, {}).get("type") == type and port == output and shows:
                        return id
        return ""

    def title(self, node: str) -> str:
        """What people call a step: the title on the canvas of the node that it is, or that it grew from."""
        entry = self.nodes.get(base(node), {})
        return str(entry.get("title") or base(node))

    def speaks(self, node: str) -> bool:
        return bool(self.nodes.get(base(node), {}).get("type") == SPEAKER)

    @property
    def is_tiny(self) -> bool:
        """Whether its models are those that come with Anyloom, which know nothing."""
        presets = [str(value) for name, value in self.settings() if name.endswith(".preset")]
        return bool(presets) and all(preset.startswith("tiny") for preset in presets)

    def turn(self, text: str, files: Sequence[str], read_as: Sequence[str], history: str) -> dict[str, Any]:
        """What to submit for one turn: the settings and its own values."""
        return {
            **self.values,
            f"{self.message}.text": text,
            f"{self.message}.files": list(files),
            f"{self.message}.read_as": list(read_as),
            f"{self.history}.file": history,
        }

    def seeds(self, seed: int) -> dict[str, int]:
        """Every random choice of the workflow anew."""
        return {
            f"{id}.{port['name']}": seed
            for id, node in self.nodes.items()
            for port in self.types.get(node["type"], {}).get("inputs", ())
            if port.get("widget", {}).get("control") == "seed"
        }

    def setting(self, name: str, text: str) -> dict[str, Any]:
        """`node.input`, or an input's name alone: then of every node that has it and no link there."""
        wanted, dot, wanted_port = name.rpartition(".")
        found, known = {}, set()
        for id, node in self.nodes.items():
            for port in self.types.get(node["type"], {}).get("inputs", ()):
                if port["name"] in node.get("links", {}) or id in (self.message, self.history):
                    continue
                known |= {port["name"]} | ({f"{id}.{port['name']}"} if dot else set())
                if port["name"] == wanted_port and (not dot or id == wanted):
                    found[f"{id}.{port['name']}"] = Setting(name, text).literal(port["kind"])
        if not found:
            close = difflib.get_close_matches(name, known, 3, 0.5)
            raise NotFoundError(
                f"this workflow has no input {name!r}.",
                remedy=f"Did you mean {' or '.join(close)}?" if close else "`/set` alone lists them.",
                code="unknown_input",
            )
        return found

    def settings(self) -> list[tuple[str, Any]]:
        """Every input that `/set` can change, with the value that holds."""
        listed = []
        for id, node in self.nodes.items():
            for port in self.types.get(node["type"], {}).get("inputs", ()):
                name = f"{id}.{port['name']}"
                fixed = port["name"] in node.get("links", {}) or id in (self.message, self.history)
                if not fixed and port["kind"] in ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN"):
                    value = self.values.get(name, node.get("values", {}).get(port["name"], port.get("default")))
                    listed.append((name, value))
        return listed

    def without(self, failed: Iterable[str]) -> dict[str, Any]:
        """The workflow with the failed steps muted, run for nothing but the history: what there is, is kept."""
        gone = {base(node) for node in failed}
        nodes = {id: {**node, "mode": "muted"} if id in gone else node for id, node in self.nodes.items()}
        return {**self.document, "nodes": nodes, "targets": [self.save]}

    def file_of(self, result: Result) -> str:
        """The new history as the history input takes it; empty if there is none."""
        entry = result.outputs.get(self.save, {}).get("file")
        file = entry.get("file") if isinstance(entry, dict) else None
        return f"{file['folder']}/{file['name']}" if file else ""

    def text_of(self, result: Result, node: str) -> str:
        value = result.outputs.get(node, {}).get("text", "") if node else ""
        return value if isinstance(value, str) else ""

    def media_of(self, result: Result) -> Result:
        """The result without the history's file."""
        kept = {node: outputs for node, outputs in result.outputs.items() if node != self.save}
        return Result({**result.record, "result": kept})


def base(node: str) -> str:
    """The node on the canvas that a step belongs to: "draw" of "draw#0" and "draw/inner"."""
    return node.partition("/")[0].partition("#")[0]
