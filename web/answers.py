"""JSON schemas of what an editor asks for: ports and widgets, plans, queue and history, timelines, memory."""

from __future__ import annotations

from graph_engine.graph.port import WIDGETS
from web.shapes import ANY, BOOLEAN, INTEGER, NUMBER, OBJECT, SECONDS, TEXT, Schema, record, ref

ANSWERS: dict[str, Schema] = {
    "Input": record(
        {
            "name": TEXT,
            "kind": TEXT,
            "required": BOOLEAN,
            "default": ANY,
            "description": TEXT,
            "as_list": {"type": "boolean", "description": "takes the whole list; others are mapped over lists"},
            "lazy": BOOLEAN,
            "match": {"type": "string", "description": "ports of one node with the same match carry the same kind"},
            "widget": ref("Widget"),
        },
        "name",
        "kind",
        "required",
    ),
    "Widget": record(
        {
            "type": {"enum": list(WIDGETS)},
            "integer": {"type": "boolean", "description": "whole numbers only"},
            "min": {"type": "number", "description": "of a number, or of the length of a text"},
            "max": NUMBER,
            "step": NUMBER,
            "options": {"type": "array", "items": TEXT},
            "multiline": BOOLEAN,
            "upload": {"type": "string", "description": "image, audio, video, text or *: a file of the input folder"},
            "control": {"type": "string", "description": "seed: the editor may change the number after every run"},
            "suggest": {"type": "string", "description": "models: names of the models folder are offered"},
            "style": TEXT,
            "label": {"type": "string", "description": "shown instead of the port's name"},
            "placeholder": TEXT,
        },
        "type",
        description="how a literal is entered; an input without one can only be linked",
    ),
    "Queue": record(
        {
            "held": {"type": "boolean", "description": "no step is begun"},
            "runs": {
                "type": "array",
                "items": {
                    "description": "a run, as Run has it, and how far it has come",
                    "allOf": [{"type": "object", "required": ["id", "status", "priority", "paused"]}],
                    "type": "object",
                    "properties": {
                        "done": {"type": "integer", "description": "steps that are over or were there already"},
                        "working": {"type": "array", "items": TEXT, "description": "nodes that compute now"},
                    },
                    "required": ["done", "working"],
                },
            },
        }
    ),
    "Past": record(
        {
            "id": TEXT,
            "number": INTEGER,
            "name": TEXT,
            "client": TEXT,
            "status": TEXT,
            "created": NUMBER,
            "started": SECONDS,
            "finished": SECONDS,
            "nodes": INTEGER,
            "errors": INTEGER,
            "media": {
                "type": "array",
                "description": "files that it wrote, for thumbnails",
                "items": record({"node": TEXT, "folder": TEXT, "name": TEXT, "media_type": TEXT}),
            },
            "more_media": INTEGER,
        }
    ),
    "Explanation": record(
        {
            "run": TEXT,
            "compared_with": {
                "anyOf": [record({"run": TEXT, "number": INTEGER, "name": TEXT}), {"type": "null"}],
                "description": "null: there is no earlier run with a node in common",
            },
            "nodes": {
                "type": "array",
                "items": record(
                    {
                        "node": TEXT,
                        "type": TEXT,
                        "outcome": {"type": "string", "description": "as events have it; not_needed, waiting, unknown"},
                        "cached": BOOLEAN,
                        "why": {
                            "type": "array",
                            "description": "empty for a hit",
                            "items": record(
                                {
                                    "what": {
                                        "enum": [
                                            *("new", "type", "version", "literal", "link", "upstream", "file"),
                                            *("first", "effect", "upstream_effect", "unfinished", "gone"),
                                        ]
                                    },
                                    "input": TEXT,
                                    "node": TEXT,
                                    "old": ANY,
                                    "new": ANY,
                                },
                                "what",
                            ),
                        },
                    }
                ),
            },
        }
    ),
    "Timeline": record(
        {
            "traceEvents": {
                "type": "array",
                "description": "ph X: a stretch, i: a moment, M: names of rows; ts and dur in microseconds; cat: run, steps, "
                "waiting, memory",
                "items": record({"name": TEXT, "ph": TEXT, "pid": INTEGER, "tid": INTEGER}, more=True),
            },
            "displayTimeUnit": TEXT,
            "otherData": record(
                {
                    "run": TEXT,
                    "name": TEXT,
                    "number": INTEGER,
                    "status": TEXT,
                    "began": {"type": "number", "description": "unix seconds of ts 0"},
                    "left_out": {"type": "integer", "description": "stretches that were too many, the shortest"},
                }
            ),
        }
    ),
    "Question": record(
        {
            "document": ref("Document"),
            "workflow": {"type": "string", "description": "name of a saved workflow, instead of a document"},
            "values": OBJECT,
            "targets": {"type": ["array", "null"], "items": TEXT},
            "device": {"type": "string", "description": "another one than the first"},
            "budget_bytes": {"type": "integer", "description": "as if the device had so many for models"},
            **{
                name: {"description": "as a submission has it; not looked at"}
                for name in ("priority", "name", "pins", "breakpoints")
            },
        }
    )
    | {"required": []},
    "Outlook": record(
        {
            "summary": {"type": "string", "description": "one line: fits in 8.00 GB: 14.6 s, 2 models move"},
            "fits": {"enum": ["whole", "streamed", "no"]},
            "problem": {"type": "string", "description": "why it does not fit; models then end before it"},
            "device": TEXT,
            "budget_bytes": INTEGER,
            "bandwidth": {"type": "number", "description": "bytes a second to the device"},
            "bandwidth_observed": {"type": "boolean", "description": "false: assumed"},
            "models": {
                "type": "array",
                "description": "uses, in the order of the plan",
                "items": record(
                    {
                        "node": TEXT,
                        "model": TEXT,
                        "weight_bytes": INTEGER,
                        "kept_bytes": {"type": "integer", "description": "stay while it is used"},
                        "streamed_bytes": {"type": "integer", "description": "copied in every pass"},
                        "passes": {
                            "type": "integer",
                            "description": "that are counted of what is streamed: tokens or denoising steps",
                        },
                        "copied_bytes": {"type": "integer", "description": "in this step, with these passes"},
                        "here": {"type": "boolean", "description": "on the device now"},
                    }
                ),
            },
            "moving": {"type": "integer", "description": "models that are copied to the device"},
            "copied_bytes": INTEGER,
            "working_bytes": {"type": "integer", "description": "most that a step needs beside models, as nodes say"},
            "weights_here": {
                "type": "boolean",
                "description": "false: sizes are those of the preset, files are missing",
            },
            "steps": {"type": "integer", "description": "that would be computed"},
            "cached": {"type": "integer", "description": "that are there already or not needed"},
            "copy_s": NUMBER,
            "compute_s": {
                "type": "number",
                "description": "what steps of these types took so far, one after the other",
            },
            "expected_s": {
                "type": "number",
                "description": "of each step the longer of both, where it computes while its models come; else their sum",
            },
            "unknown": {"type": "array", "items": TEXT, "description": "node types that never ran here"},
        }
    ),
    "ModelInMemory": record(
        {
            "key": TEXT,
            "family": TEXT,
            "state": {"enum": ["resident", "streaming", "loading"]},
            "bytes": {"type": "integer", "description": "of the budget"},
            "weight_bytes": {"type": "integer", "description": "all of it"},
            "beside_bytes": {"type": "integer", "description": "kept for it beside its weights: captured graphs"},
            "share": {"type": "number", "description": "of its weights that are here, 0..1"},
            "leases": {"type": "integer", "description": "jobs that use it now; it cannot leave"},
            "next_use": {
                "type": ["integer", "null"],
                "description": "how many uses of models from now, as plans say; null: never",
            },
        }
    ),
    "DeviceMemory": record(
        {
            "device": TEXT,
            **dict.fromkeys(("total_bytes", "free_bytes", "budget_bytes", "used_bytes", "reserved_bytes"), INTEGER),
            "models": {"type": "array", "items": ref("ModelInMemory")},
            "transfers": {
                "type": "array",
                "description": "on their way: whole models (load) and blocks of streamed ones (copy)",
                "items": record(
                    {"model": TEXT, "what": {"enum": ["load", "copy"]}, "bytes": INTEGER, "since_s": NUMBER}
                ),
            },
            **dict.fromkeys(("loads", "evictions", "copied_bytes"), INTEGER),
        }
    ),
    "Memory": record(
        {
            "time": NUMBER,
            "devices": {"type": "array", "items": ref("DeviceMemory")},
            "waiting": {
                "type": "array",
                "description": "steps that there is no room for yet",
                "items": record({"run": TEXT, "node": TEXT, "device": TEXT, "since_s": NUMBER}),
            },
            "process_bytes": INTEGER,
        }
    ),
}
