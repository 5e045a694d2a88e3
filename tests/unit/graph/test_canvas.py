"""What an editor is told of node types and kinds."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import pytest

from graph_engine import AnyValue, Audio, Image, Json, NodeContext, Widget, node
from graph_engine.graph.canvas import drawn_kinds
from graph_engine.graph.docstring import port_words
from graph_engine.graph.node import NodeType
from graph_engine.graph.port import WIDGETS
from graph_engine.graph.registry import Registry


class Parts(NamedTuple):
    picture: Image
    size: int


@node(id="draw.many")
def many(
    context: NodeContext,
    image: Image,
    file: Annotated[str, Widget(upload="image")],
    words: Annotated[str, Widget(multiline=True)] = "",
    word: str = "",
    mode: Literal["a", "b"] = "a",
    colour: Annotated[str, Widget(style="color")] = "#000000",
    seed: Annotated[int, Widget(min=0, control="seed")] = 0,
    share: Annotated[float, Widget(min=0, max=1, step=0.01)] = 0.5,
    side: Annotated[int, Widget(min=1, max=16_384)] = 512,
    plain: float = 1.0,
    on: bool = True,
    facts: Json = None,
    anything: AnyValue = None,
) -> Parts:
    """Draws. Returns a picture; mode: of no interest here, because it is not the beginning of a sentence

    words, word: what to draw. mode: how (a: well,
    b: badly). size: of the result.
    """
    raise NotImplementedError


def type_of(function: object) -> NodeType:
    found = function.node_type  # type: ignore[attr-defined]
    assert isinstance(found, NodeType)
    return found


@pytest.mark.parametrize(
    ("port", "widget"),
    [
        ("file", {"type": "file", "upload": "image"}),
        ("words", {"type": "multiline", "multiline": True}),
        ("word", {"type": "text"}),
        ("mode", {"type": "combo", "options": ("a", "b")}),
        ("colour", {"type": "color", "style": "color"}),
        ("seed", {"type": "seed", "min": 0, "control": "seed", "integer": True}),
        ("share", {"type": "slider", "min": 0, "max": 1, "step": 0.01}),
        ("side", {"type": "number", "min": 1, "max": 16_384, "integer": True}),
        ("plain", {"type": "number"}),
        ("on", {"type": "boolean"}),
        ("facts", {"type": "json"}),
        ("anything", {"type": "any"}),
    ],
)
def test_every_literal_has_its_widget(port: str, widget: dict[str, object]) -> None:
    entry = next(entry for entry in type_of(many).to_dict()["inputs"] if entry["name"] == port)
    assert entry["widget"] == widget


def test_what_can_only_be_linked_has_no_widget() -> None:
    assert "widget" not in type_of(many).to_dict()["inputs"][0]


def test_ports_have_the_words_of_the_docstring() -> None:
    entry = type_of(many).to_dict()
    words = {port["name"]: port.get("description") for port in entry["inputs"]}
    assert (words["words"], words["word"]) == ("what to draw.", "what to draw.")
    assert words["mode"] == "how (a: well, b: badly)."
    assert words["share"] is None
    assert [port.get("description") for port in entry["outputs"]] == [None, "of the result."]


def test_words_of_ports_end_where_the_next_ones_begin() -> None:
    text = "First.\n\nlength: of it. width, height: in pixels;\nas ever. Not a port: this."
    assert port_words(text, ("length", "width", "height")) == {
        "length": "of it.",
        "width": "in pixels; as ever. Not a port: this.",
        "height": "in pixels; as ever. Not a port: this.",
    }
    assert port_words("a.b: c", ()) == {}


@node(id="turn.measure")
def measure(image: Image, precise: bool = False) -> int:
    """Its width."""
    return 1


@node(id="turn.sound")
def sound(image: Image) -> Audio:
    """How it sounds."""
    return {}


@node(id="turn.two")
def two(image: Image, other: Image) -> int:
    """Needs two."""
    return 1


def test_kinds_say_what_fits_and_what_converts() -> None:
    kinds = {entry["name"]: entry for entry in drawn_kinds([type_of(f) for f in (many, measure, sound, two)])}
    assert {"INT", "*"} <= set(kinds["FLOAT"]["accepts"])
    assert "FLOAT" not in kinds["INT"]["accepts"]
    assert kinds["IMAGE"]["literal"] is False
    assert [(entry["to"], entry["node"]) for entry in kinds["IMAGE"]["converters"]] == [
        ("AUDIO", "turn.sound"),
        ("INT", "turn.measure"),
    ]


def test_every_shipped_node_type_can_be_drawn() -> None:
    types = list(Registry.discover())
    for type in types:
        for port in type.to_dict()["inputs"]:
            assert port.get("widget", {"type": "text"})["type"] in WIDGETS
            assert ("widget" in port) is type.by_name[port["name"]].kind.literal
    assert {entry["name"] for entry in drawn_kinds(types)} >= {"IMAGE", "AUDIO", "VIDEO", "LATENT", "CONDITIONING"}
