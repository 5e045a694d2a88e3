"""Law P13: what was saved once opens for ever, and means the same. Files of `documents` are added, never changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graph_engine.graph.document import Document, parse
from graph_engine.graph.migrate import VERSION

FOLDER = Path(__file__).parent / "documents"

SUMMARIES: dict[str, dict[str, Any]] = {
    "v1_minimal": {},
    "v1_values": {
        "title": "Every kind of literal",
        "nodes": {
            "literals": {
                "type": "control.template",
                "values": {
                    "text": "",
                    "whole": 0,
                    "negative": -7,
                    "large": 9007199254740993,
                    "huge": 123456789012345678901234567890,
                    "real": 0.1,
                    "tiny": 5e-324,
                    "exponent": 100.0,
                    "yes": True,
                    "no": False,
                    "nothing": None,
                    "list": [1, [2, []], {"deep": {"er": None}}],
                    "object": {},
                },
            }
        },
    },
    "v1_links": {
        "title": "A diamond",
        "description": "Two branches of one source, joined; one output name has a dot.",
        "nodes": {
            "end": {
                "type": "media.join",
                "values": {"gap": 2.5},
                "links": {"first": ("left", "image"), "second": ("right", "image")},
            },
            "left": {"type": "media.resize_image", "values": {"width": 64}, "links": {"image": ("top", "image")}},
            "right": {
                "type": "other_pack.deep.name",
                "links": {"image": ("top", "image"), "mask": ("top", "mask.inverted")},
            },
            "top": {"type": "media.load_image", "values": {"file": "cat.png"}},
        },
    },
    "v1_asks_and_targets": {
        "title": "Draw",
        "nodes": {
            "prompt": {"type": "control.constant", "values": {"value": "a red boat"}, "title": "What to draw"},
            "seed": {"type": "control.seed", "values": {"seed": 18446744073709551615}},
            "draw": {
                "type": "nextgpt.decode_image",
                "links": {"prompt": ("prompt", "value"), "seed": ("seed", "int")},
            },
            "show": {"type": "media.preview_image", "links": {"image": ("draw", "image")}},
        },
        "asks": [("prompt", "value", "Prompt", "What the picture shows."), ("seed", "seed", "", "")],
        "targets": ["show", "draw"],
    },
    "v1_modes_and_ui": {
        "nodes": {
            "a": {"type": "m.a"},
            "b": {"type": "m.b", "mode": "muted"},
            "c-1_X": {"type": "m.c", "mode": "bypassed", "links": {"in": ("a", "out")}},
        },
    },
    "v1_unicode": {
        "title": "Größe · 大きさ · \U0001f600",
        "description": "escaped: ü \U0001f600 \x00 \ud800",
        "nodes": {
            "text": {
                "type": "control.constant",
                "title": "Ünïcode",
                "values": {
                    "ключ": "значение",
                    "rtl": "שלום",
                    "zwj": "\U0001f469\u200d\U0001f469\u200d\U0001f467",
                    '"quoted"\n': "\t",
                },
            },
            "0": {"type": "control.constant", "values": {"value": "a node may be called 0"}},
            "constructor": {"type": "control.constant", "links": {"__proto__": ("text", "value")}},
        },
    },
}


def summary(document: Document) -> dict[str, Any]:
    """What the document means, without anything that is empty."""
    nodes = {}
    for id, node in document.nodes.items():
        assert node.id == id
        entry = {"type": node.type, "values": node.values, "links": node.links, "title": node.title}
        if node.mode != "active":
            entry["mode"] = node.mode
        nodes[id] = {name: value for name, value in entry.items() if value}
    whole = {
        "title": document.title,
        "description": document.description,
        "nodes": nodes,
        "asks": [tuple(ask) for ask in document.asks],
        "targets": list(document.targets),
    }
    return {name: value for name, value in whole.items() if value}


@pytest.mark.law("P13")
@pytest.mark.parametrize("name", SUMMARIES)
def test_a_golden_document_opens_and_means_what_it_meant(name: str) -> None:
    content = (FOLDER / f"{name}.json").read_bytes()
    document = parse(content)
    found, expected = summary(document), SUMMARIES[name]
    assert found == expected
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)  # types too: 100.0 is not 100
    assert document.raw["version"] == VERSION


@pytest.mark.law("P13")
@pytest.mark.parametrize("name", [name for name in SUMMARIES if name.startswith(f"v{VERSION}_")])
def test_what_is_kept_of_a_document_of_today_is_all_of_it(name: str) -> None:
    """Also what nobody reads here: a later editor's keys come back when the document is saved again."""
    content = (FOLDER / f"{name}.json").read_bytes()
    assert parse(content).raw == json.loads(content)


@pytest.mark.law("P13")
@pytest.mark.parametrize("name", SUMMARIES)
def test_a_document_that_is_saved_again_opens_again(name: str) -> None:
    document = parse((FOLDER / f"{name}.json").read_bytes())
    assert parse(json.dumps(document.raw)) == document


@pytest.mark.law("P13")
def test_every_version_has_its_documents_and_every_document_its_summary() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(SUMMARIES)
    assert {int(name[1 : name.index("_")]) for name in SUMMARIES} == set(range(1, VERSION + 1))
