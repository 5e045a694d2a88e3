"""Any to any: the workflow that takes these modalities in and gives those out, written from the table.

    document = any_to_any(["text", "image"], ["text", "audio"])      # JSON, as it is saved
    record = await engine.submit(document, values={"prompt.text": "What does it sound like?"})

Node names: `load_NAME`, `encode_NAME`, `tokens_NAME` per modality that goes in; `condition_NAME`, `decode_NAME`,
`save_NAME` per modality that comes out; `models`, `prompt`, `think`, `route`, and `turn`, `reply` where text comes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graph_engine.errors import RequestError
from graph_engine.graph.kinds import AUDIO, IMAGE, JSON, VIDEO, Kind
from graph_engine.graph.migrate import FORMAT, VERSION
from graph_engine.graph.node import NodeType
from nodes.nextgpt import encode
from nodes.nextgpt.modality import MODALITIES, SPOKEN

TEXT = "text"
_SOURCES: dict[Kind, tuple[str, str, Any]] = {
    IMAGE: ("media.load_image", "file", "lighthouse.png"),
    VIDEO: ("media.load_video", "file", "waves.mp4"),
    AUDIO: ("media.load_audio", "file", "bell.wav"),
    JSON: ("control.json", "value", [[0.0] * 2000] * 6),
}
"""Where a medium of this kind comes from: a node type, the input that names it, a sample that ships."""
_COLUMN, _ROW = 300, 304


def inputs() -> tuple[str, ...]:
    """The modalities that can go in: text, and what has an encode node."""
    return (TEXT, *(name for name in MODALITIES if name != TEXT and _encoder(name) is not None))


def outputs() -> tuple[str, ...]:
    """The modalities that can come out."""
    return (TEXT, *SPOKEN)


def any_to_any(given: Iterable[str], wanted: Iterable[str], preset: str = "tiny") -> dict[str, Any]:
    """The workflow as JSON: all of `given` in one turn, exactly `wanted` made of the answer.

    The answer always has words; without `text` in `wanted` nothing shows them. Raises RequestError for an empty set or
    a modality that cannot be used so.
    """
    given, wanted = _known(given, inputs(), "go in"), _known(wanted, outputs(), "come out")
    nodes: dict[str, Any] = {"models": _node("nextgpt.load", 0, 0, {"preset": preset})}
    asks = []
    features = {}
    for row, name in enumerate((name for name in given if name != TEXT), 1):
        encoder = _encoder(name)
        assert encoder is not None
        port = encoder.inputs[0]
        type, input, sample = _SOURCES[port.kind]
        source = f"load_{name}.{port.kind.port_name}"
        nodes |= {
            f"load_{name}": _node(type, 0, row, {input: sample}),
            f"encode_{name}": _node(encoder.id, 1, row, **{port.name: source, "encoder": "models.encoder"}),
            f"tokens_{name}": _node(
                "nextgpt.project_in", 2, row, embedding=f"encode_{name}.embedding", projector="models.input_projector"
            ),
        }
        features[name] = f"tokens_{name}.tokens"
        asks.append({"node": f"load_{name}", "input": input, "label": name.capitalize()})
    text = {"text": "Answer with what was asked for."} if TEXT in given else {}
    if text:
        asks.insert(0, {"node": "prompt", "input": "text", "label": "Message"})
    wishes = {name: "always" if name in wanted else "never" for name in SPOKEN}
    nodes |= {
        "prompt": _node("nextgpt.conversation", 3, 0, text, **features),
        "think": _node(
            "nextgpt.reason", 4, 0, wishes, conversation="prompt.conversation", model="models.language_model"
        ),
        "route": _node("nextgpt.route", 5, 0, generation="think.generation"),
    }
    made = {}
    for row, name in enumerate((name for name in wanted if name != TEXT), 1):
        kind = SPOKEN[name].kind
        assert kind is not None
        medium = f"decode_{name}.{kind.port_name}"
        nodes |= {
            f"condition_{name}": _node(
                "nextgpt.project_out", 6, row, signals=f"route.{name}", projector=f"models.{name}_projector"
            ),
            f"decode_{name}": _node(
                f"nextgpt.decode_{name}",
                7,
                row,
                condition=f"condition_{name}.conditioning",
                decoder=f"models.{name}_decoder",
            ),
            f"save_{name}": _node(f"media.save_{kind.port_name}", 8, row, {"name": name}, **{kind.port_name: medium}),
        }
        made[f"{name}s"] = medium
    if TEXT in wanted:
        nodes |= {
            "turn": _node("nextgpt.assemble", 8, 0, reply="route.reply", previous="prompt.conversation", **made),
            "reply": _node("media.show_text", 9, 0, text="turn.reply_text"),
        }
    title = f"{' and '.join(given).capitalize()} to {' and '.join(wanted)}"
    return {"format": FORMAT, "version": VERSION, "title": title, "asks": asks, "nodes": nodes}


def _encoder(name: str) -> NodeType | None:
    """The encode node of a modality, whose first input is its medium."""
    return getattr(getattr(encode, f"encode_{name}", None), "node_type", None)


def _known(names: Iterable[str], known: tuple[str, ...], does: str) -> tuple[str, ...]:
    """The names in the order of the table."""
    asked = set(names)
    unknown = sorted(asked - set(known))
    if unknown or not asked:
        raise RequestError(
            f"{', '.join(map(repr, unknown))} cannot {does}." if unknown else f"no modality is to {does}.",
            remedy=f"Name some of {', '.join(known)}.",
            code="unknown_modality",
        )
    return tuple(name for name in known if name in asked)


def _node(type: str, column: int, row: int, values: dict[str, Any] | None = None, /, **links: str) -> dict[str, Any]:
    place = {"x": column * _COLUMN, "y": row * _ROW}
    return {"type": type, "values": values or {}, "links": links, "ui": place}
