"""Law P13: what was saved once opens for ever, and means the same. Files of `documents` are added, never changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graph_engine.graph.document import Document, DocumentNode, parse
from graph_engine.graph.migrate import STEPS, VERSION

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
    "v2_subgraphs": {
        "title": "Twice soft",
        "nodes": {
            "top": {"type": "media.load_image", "values": {"file": "cat.png"}},
            "soft": {
                "type": "subgraph:twice",
                "values": {"first/blur.edge": 3},
                "links": {"image": ("top", "image")},
                "mode": "bypassed",
            },
            "end": {"type": "media.preview_image", "links": {"image": ("soft", "image")}},
        },
        "targets": ["soft/second/blur", "end"],
        "publishes": "twice",
        "subgraphs": {
            "soften": {
                "texts": ["Soften", "Blurs a picture.", "mine/pictures"],
                "inputs": [
                    ("image", "IMAGE", None, False),
                    ("radius", "FLOAT", 2.5, True),
                    ("nothing", "*", None, True),
                ],
                "outputs": [("image", "IMAGE", ("blur", "image")), ("größe", "INT", None)],
                "nodes": {
                    "blur": {
                        "type": "media.blur_image",
                        "values": {"edge": 1},
                        "links": {"image": ("@", "image"), "radius": ("@", "radius")},
                        "title": "Blur",
                    }
                },
            },
            "twice": {
                "texts": ["", "", ""],
                "inputs": [("image", "IMAGE", None, False)],
                "outputs": [("image", "IMAGE", ("second", "image")), ("same", "IMAGE", ("@", "image"))],
                "nodes": {
                    "first": {"type": "subgraph:soften", "links": {"image": ("@", "image")}},
                    "second": {
                        "type": "subgraph:soften",
                        "values": {"radius": 4, "blur.edge": 2},
                        "links": {"image": ("first", "image")},
                    },
                },
            },
        },
    },
}


def nodes_of(nodes: dict[str, DocumentNode]) -> dict[str, Any]:
    found = {}
    for id, node in nodes.items():
        assert node.id == id
        entry = {"type": node.type, "values": node.values, "links": node.links, "title": node.title}
        if node.mode != "active":
            entry["mode"] = node.mode
        found[id] = {name: value for name, value in entry.items() if value}
    return found


def summary(document: Document) -> dict[str, Any]:
    """What the document means, without anything that is empty."""
    whole = {
        "title": document.title,
        "description": document.description,
        "nodes": nodes_of(document.nodes),
        "asks": [tuple(ask) for ask in document.asks],
        "targets": list(document.targets),
        "publishes": document.publishes,
        "subgraphs": {
            name: {
                "texts": [one.title, one.description, one.category],
                "inputs": [tuple(port) for port in one.inputs.values()],
                "outputs": [tuple(port) for port in one.outputs.values()],
                "nodes": nodes_of(one.nodes),
            }
            for name, one in document.subgraphs.items()
        },
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
    assert document.raw["version"] == became(name)


def version_of(name: str) -> int:
    return int(name[1 : name.index("_")])


def became(name: str) -> int:
    """The version that it has when it is opened: a later one only where the shape of documents changed since."""
    return max([version_of(name), *(before + 1 for before in STEPS if before >= version_of(name))])


@pytest.mark.law("P13")
@pytest.mark.parametrize("name", [name for name in SUMMARIES if became(name) == version_of(name)])
def test_what_is_kept_of_a_document_is_all_of_it(name: str) -> None:
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
    assert {version_of(name) for name in SUMMARIES} == set(range(1, VERSION + 1))
