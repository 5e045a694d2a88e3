"""Old documents become new ones, one version at a time. What is saved today opens in ten years (law P13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graph_engine.errors import DocumentError, Problem

FORMAT = "anyloom"
VERSION = 2
"""2: subgraphs."""

STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""version n -> a function that makes version n + 1 of it. Entries are added, never changed.

A version that only adds something has none: a document that does without stays as it is, so older Anylooms read it too.
"""


def migrate(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The document as the present version has it. Raises DocumentError for one of another format or from the future."""
    if raw.get("format") != FORMAT:
        raise DocumentError([_foreign(raw)])
    version = raw.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DocumentError(
            [
                Problem(
                    "bad_version",
                    f"version is {version!r}.",
                    f"Write a whole number; today it is {VERSION}.",
                    place="/version",
                )
            ]
        )
    if version > VERSION:
        raise DocumentError(
            [
                Problem(
                    "future_version",
                    f"this workflow was saved by a newer Anyloom (document version {version}, known here: {VERSION}).",
                    "Update Anyloom.",
                    place="/version",
                )
            ]
        )
    document = dict(raw)
    for before in range(version, VERSION):
        if before in STEPS:
            document = STEPS[before](document)
            document["version"] = before + 1
    return document


def _foreign(raw: Mapping[str, Any]) -> Problem:
    nodes = raw.get("nodes")
    values = list(raw.values())
    comfy = (isinstance(nodes, list) and "links" in raw) or (
        bool(values) and all(isinstance(value, Mapping) and "class_type" in value for value in values)
    )
    if comfy:
        return Problem(
            "foreign_format",
            "this is a ComfyUI workflow, which this version of Anyloom does not run.",
            "Rebuild it with Anyloom's nodes.",
            place="/",
        )
    return Problem(
        "not_a_workflow",
        'this JSON is not an Anyloom workflow: it has no "format": "anyloom".',
        'A workflow starts with {"format": "anyloom", "version": 1, "nodes": {...}}.',
        place="/format" if "format" in raw else "/",
    )
