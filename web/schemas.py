"""JSON schemas of what the API answers with, named as in the OpenAPI document."""

from __future__ import annotations

from graph_engine.record import STATUSES
from web.answers import ANSWERS
from web.shapes import (
    ANY,
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    SECONDS,
    TEXT,
    Schema,
    listing,
    record,
    ref,
)

__all__ = [
    "ANY",
    "BOOLEAN",
    "INTEGER",
    "NUMBER",
    "OBJECT",
    "SCHEMAS",
    "SECONDS",
    "TEXT",
    "Schema",
    "listing",
    "record",
    "ref",
]


SCHEMAS: dict[str, Schema] = {
    **ANSWERS,
    "Problem": record(dict.fromkeys(("code", "message", "remedy", "node", "port", "place"), TEXT), "code", "message"),
    "Error": record(
        {
            "error": record(
                {
                    **dict.fromkeys(("code", "message", "remedy", "node", "port", "place"), TEXT),
                    "problems": {"type": "array", "items": ref("Problem"), "description": "everything that was found"},
                },
                "code",
                "message",
            )
        }
    ),
    "Run": record(
        {
            "id": TEXT,
            "status": {"enum": list(STATUSES)},
            "number": INTEGER,
            "name": TEXT,
            "client": TEXT,
            "priority": INTEGER,
            "created": NUMBER,
            "started": SECONDS,
            "finished": SECONDS,
            "nodes": INTEGER,
            "result": {
                "type": "object",
                "description": "node -> port -> value; files as {file: {folder, name, media_type, bytes}}, "
                "large values as {artifact, port, kind, summary}",
                "additionalProperties": OBJECT,
            },
            "errors": {"type": "array", "items": {**ref("Problem")}},
            "paused": {"type": "array", "items": TEXT, "description": "nodes at whose breakpoint it waits"},
        }
    ),
    "Event": record(
        {"seq": {"type": "integer", "minimum": 1}, "type": TEXT, "node": TEXT},
        "seq",
        "type",
        more=True,
        description="one thing that happened in a run; the further fields depend on the type",
    ),
    "Document": record(
        {
            "format": {"const": "anyloom"},
            "version": {"type": "integer", "minimum": 1},
            "title": TEXT,
            "description": TEXT,
            "nodes": {"type": "object", "additionalProperties": OBJECT},
            "asks": {"type": "array", "items": OBJECT},
            "targets": {"type": "array", "items": TEXT},
            "subgraphs": {
                "type": "object",
                "description": 'name -> what nodes of type "subgraph:NAME" stand for; from version 2 on',
                "additionalProperties": ref("Subgraph"),
            },
            "publishes": {"type": "string", "description": "the subgraph that others may take out of it"},
        },
        "format",
        "version",
        "nodes",
        more=True,
        description="a workflow",
    ),
    "ExposedPort": record(
        {
            "name": TEXT,
            "kind": TEXT,
            "default": {"description": "of an input: makes it a promoted widget"},
            "link": {"type": "string", "description": "of an output: node.output within"},
            "label": TEXT,
        },
        "name",
        "kind",
        more=True,
    ),
    "Subgraph": record(
        {
            **dict.fromkeys(("title", "description", "category"), TEXT),
            "inputs": {"type": "array", "items": ref("ExposedPort")},
            "outputs": {"type": "array", "items": ref("ExposedPort")},
            "nodes": {"type": "object", "additionalProperties": OBJECT},
        },
        "nodes",
        more=True,
        description='part of a workflow; within it "@.NAME" is what comes in at an exposed input',
    ),
    "Workflow": record(
        {
            "name": TEXT,
            "writable": BOOLEAN,
            "title": TEXT,
            "description": TEXT,
            "nodes": INTEGER,
            "asks": {
                "type": "array",
                "items": record(
                    {"node": TEXT, "input": TEXT, "label": TEXT, "description": TEXT, "type": TEXT, "value": ANY}
                ),
            },
            "modified": {"type": "number", "description": "unix seconds"},
            "thumbnail": record(
                {"folder": TEXT, "name": TEXT}, description="what `ui.thumbnail` of the workflow names"
            ),
            "publishes": record(
                {
                    **dict.fromkeys(("name", "title", "description", "category"), TEXT),
                    "inputs": {"type": "array", "items": ref("ExposedPort")},
                    "outputs": {"type": "array", "items": ref("ExposedPort")},
                },
                description="the subgraph that can be added to other workflows",
            ),
            "error": TEXT,
        },
        "name",
        "writable",
        "title",
        "description",
        "nodes",
        "asks",
        description="what a list of saved workflows shows of one",
    ),
    "Submission": record(
        {
            "document": ref("Document"),
            "workflow": {"type": "string", "description": "name of a saved workflow, instead of a document"},
            "values": {"type": "object", "description": '{"node.input": literal}, written over the workflow\'s own'},
            "targets": {"type": ["array", "null"], "items": TEXT, "description": "nodes to run for"},
            "priority": {"type": "integer", "minimum": -1000, "maximum": 1000},
            "name": {"type": "string", "maxLength": 200},
            "pins": {
                "type": "object",
                "description": "node -> run id, or key of an artifact: its outputs are taken from there",
                "additionalProperties": TEXT,
            },
            "breakpoints": {"type": "array", "items": TEXT, "description": "nodes before which the run pauses"},
        }
    )
    | {"required": []},
    "Sweep": record(
        {
            "document": ref("Document"),
            "workflow": TEXT,
            "values": OBJECT,
            "targets": {"type": ["array", "null"], "items": TEXT},
            "priority": {"type": "integer", "minimum": -1000, "maximum": 1000},
            "name": {"type": "string", "maxLength": 200},
            "pins": {"type": "object", "additionalProperties": TEXT},
            "breakpoints": {"type": "array", "items": TEXT},
            "axes": {
                "type": "array",
                "minItems": 1,
                "maxItems": 4,
                "items": record({"input": TEXT, "values": {"type": "array", "items": ANY}}),
            },
        },
        "axes",
        description="a submission, and the inputs that get several values: every combination is a run",
    ),
    "Tally": record(
        {
            "runs": INTEGER,
            "steps": {"type": "integer", "description": "of all runs together"},
            "shared": {"type": "integer", "description": "of these, what another run of the sweep computes for all"},
            "cached": {"type": "integer", "description": "of these, results that are there already"},
        }
    ),
    "Port": record({"name": TEXT, "kind": TEXT}, more=True),
    "NodeType": record(
        {
            "id": TEXT,
            "version": TEXT,
            "category": TEXT,
            "title": TEXT,
            "description": TEXT,
            "inputs": {"type": "array", "items": ref("Input")},
            "more": {"anyOf": [ref("Input"), {"type": "null"}]},
            "outputs": {"type": "array", "items": ref("Port")},
            "effect": {"enum": ["pure", "seeded", "external"]},
            "output": BOOLEAN,
            "lane": TEXT,
        },
        more=True,
    ),
    "File": record(
        {
            "folder": {"enum": ["input", "output", "temp"]},
            "name": TEXT,
            "media_type": TEXT,
            "bytes": INTEGER,
            "modified": NUMBER,
            "existing": {"type": "boolean", "description": "the same content was there already under this name"},
        },
        "folder",
        "name",
        "media_type",
        "bytes",
    ),
    "Model": record({"name": TEXT, "bytes": INTEGER, "loadable": BOOLEAN}),
}
