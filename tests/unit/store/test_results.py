"""A result as JSON: small things whole, large things by reference, and never anything that is no JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import torch

from graph_engine import AnyValue, File, Image, Json, Skip, node
from graph_engine.graph.node import NodeType
from graph_engine.store.artifacts import Artifact, shape_of
from graph_engine.store.results import WHOLE_BYTES, result_of


class Three(NamedTuple):
    number: int
    picture: Image
    words: list[str]


def typed(hint: Any) -> NodeType:
    def function() -> None: ...

    function.__annotations__["return"] = hint
    return node(id="r.function")(function).node_type  # type: ignore[attr-defined,no-any-return]


def result(hint: Any, *outputs: Any) -> tuple[dict[str, Any], bool]:
    type = typed(hint)
    artifact = Artifact.of("k", outputs, type.list_flags)
    found, referred = result_of(type, artifact, artifact.shape)
    json.dumps(found, allow_nan=False)
    return found, referred


FILE = {"folder": "output", "name": "a.png", "media_type": "image/png", "bytes": 3}


@pytest.mark.parametrize("value", [0, -1.5, "", "ü\n\x00", True, None, [], {"a": [1, {"b": None}]}, "x" * 1000])
def test_small_json_stands_in_the_record(value: Any) -> None:
    assert result(Json, value) == ({"json": value}, False)


def test_a_tuple_is_a_list_in_json() -> None:
    assert result(Json, (1, (2,))) == ({"json": [1, [2]]}, False)


def test_a_tensor_is_referred_to() -> None:
    found, referred = result(Image, torch.zeros(1, 4, 5, 3))
    assert referred
    assert found == {"image": {"artifact": "k", "port": 0, "kind": "IMAGE", "summary": "float32 tensor 1x4x5x3"}}


def test_large_json_is_referred_to() -> None:
    assert result(str, "x" * (WHOLE_BYTES - 2))[1] is False
    found, referred = result(str, "x" * WHOLE_BYTES)
    assert referred
    assert found["text"]["artifact"] == "k"
    assert len(found["text"]["summary"]) < 100


def test_each_port_by_itself() -> None:
    found, referred = result(Three, 1, torch.zeros(1, 1, 1, 3), ["a", Skip("none today")])
    assert referred
    assert found["number"] == 1
    assert (found["picture"]["port"], found["picture"]["kind"]) == (1, "IMAGE")


def test_a_list_with_a_hole_shows_the_hole() -> None:
    found, referred = result(list[str], ["a", Skip("none today")])
    assert not referred
    assert found["text"][0] == "a"


def test_files_stand_by_name() -> None:
    assert result(File, FILE) == ({"file": {"file": FILE}}, False)
    listed = [FILE, Skip("no sound")]
    assert result(list[File], listed) == ({"file": [{"file": FILE}, {"skipped": "no sound"}]}, False)


def test_a_skipped_port_says_why() -> None:
    assert result(Image, Skip("the model drew nothing")) == ({"image": {"skipped": "the model drew nothing"}}, False)
    type = typed(Three)
    shape = shape_of((Skip("a"), Skip("b"), Skip("c")), type.list_flags)
    assert result_of(type, None, shape)[0] == {
        name: {"skipped": m} for name, m in zip(Three._fields, "abc", strict=True)
    }


def test_a_value_that_is_gone_is_told() -> None:
    found, referred = result_of(typed(int), None, (None,))
    assert "gone" in found["int"]["skipped"]
    assert not referred


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def ring() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], 10**5000, {1, 2}, b"x", object(), Unreadable(), {(1, 2): 3}, ring()],
    ids=["nan", "inf", "huge", "set", "bytes", "object", "unreadable", "keys", "ring"],
)
def test_what_is_no_json_is_referred_to_and_breaks_nothing(value: Any) -> None:
    found, referred = result(AnyValue, value)
    assert referred
    assert found["value"]["kind"] == "*"
    assert isinstance(found["value"]["summary"], str)
