"""What is a workflow and what is not: every problem with its code and its place, and nothing is run on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graph_engine.errors import DocumentError
from graph_engine.graph.document import Ask, Document, DocumentNode, override, parse


def document(nodes: Any = None, **changes: Any) -> dict[str, Any]:
    nodes = {"a": {"type": "x.y"}} if nodes is None else nodes
    return {"format": "anyloom", "version": 1, "nodes": nodes, **changes}


def problems(source: Any, **limits: int) -> list[tuple[str, str]]:
    with pytest.raises(DocumentError) as caught:
        parse(source if isinstance(source, str | bytes) else json.dumps(source), **limits)
    return [(problem.code, problem.place) for problem in caught.value.problems]


def node(**entry: Any) -> dict[str, Any]:
    return {"a": {"type": "x.y", **entry}}


COMFY_API = {"3": {"class_type": "KSampler", "inputs": {}}, "4": {"class_type": "Load", "inputs": {}}}
COMFY_SAVED = {"nodes": [], "links": [], "version": 0.4}


@pytest.mark.parametrize(
    ("source", "code", "place"),
    [
        ("", "bad_json", "line 1 column 1"),
        ('{\n  "format": anyloom}', "bad_json", "line 2 column 13"),
        ('{"a": 1,}', "bad_json", "line 1 column 9"),
        (b'{"format": "\xff"}', "bad_json", "/"),
        ('{"a": %s}' % ("1" * 5000), "bad_json", "/"),
        ('{"a": NaN}', "not_finite", "/"),
        ('{"a": -Infinity}', "not_finite", "/"),
        ('{"a": 1e999}', "not_finite", "/"),
        ("[" * 200_000, "too_deep", "/"),
        ('"text"', "not_a_workflow", "/"),
        ([], "not_a_workflow", "/"),
        (None, "not_a_workflow", "/"),
        ({}, "not_a_workflow", "/"),
        ({"format": "other", "version": 1}, "not_a_workflow", "/format"),
        (COMFY_API, "foreign_format", "/"),
        (COMFY_SAVED, "foreign_format", "/"),
        (document(version="1"), "bad_version", "/version"),
        (document(version=True), "bad_version", "/version"),
        (document(version=0), "bad_version", "/version"),
        (document(version=None), "bad_version", "/version"),
        (document(version=3), "future_version", "/version"),
        ({"format": "anyloom", "version": 1}, "no_nodes", "/nodes"),
        (document([]), "no_nodes", "/nodes"),
        (document({"a b": {"type": "x.y"}}), "bad_node_id", "/nodes/a b"),
        (document({"": {"type": "x.y"}}), "bad_node_id", "/nodes/"),
        (document({"a.b": {"type": "x.y"}}), "bad_node_id", "/nodes/a.b"),
        (document({"@": {"type": "x.y"}}), "bad_node_id", "/nodes/@"),
        (document({"n" * 129: {"type": "x.y"}}), "bad_node_id", "/nodes/" + "n" * 129),
        (document({"a\n": {"type": "x.y"}}), "bad_node_id", "/nodes/a\n"),
        (document({"a": []}), "bad_node", "/nodes/a"),
        (document({"a": {}}), "no_type", "/nodes/a/type"),
        (document({"a": {"type": 3}}), "no_type", "/nodes/a/type"),
        (document(node(values=[])), "bad_node", "/nodes/a/values"),
        (document(node(links=None)), "bad_node", "/nodes/a/links"),
        (document(node(links={"p": "b"})), "bad_link", "/nodes/a/links/p"),
        (document(node(links={"p": "b."})), "bad_link", "/nodes/a/links/p"),
        (document(node(links={"p": ".out"})), "bad_link", "/nodes/a/links/p"),
        (document(node(links={"p": ["b", 0]})), "bad_link", "/nodes/a/links/p"),
        (document(node(mode="asleep")), "bad_mode", "/nodes/a/mode"),
        (document(node(mode=[])), "bad_mode", "/nodes/a/mode"),
        (document(asks={}), "bad_shape", "/asks"),
        (document(asks=["a"]), "bad_ask", "/asks/0"),
        (document(asks=[{"node": "a", "input": "i"}, {"node": "b", "input": "i"}]), "bad_ask", "/asks/1"),
        (document(asks=[{"node": "a"}]), "bad_ask", "/asks/0"),
        (document(asks=[{"node": ["a"], "input": "i"}]), "bad_ask", "/asks/0"),
        (document(targets="a"), "bad_shape", "/targets"),
        (document(targets=["a", "b"]), "unknown_target", "/targets/1"),
        (document(targets=[["a"]]), "unknown_target", "/targets/0"),
    ],
)  # fmt: skip
def test_what_is_no_workflow_is_told_where(source: Any, code: str, place: str) -> None:
    assert problems(source) == [(code, place)]


def test_every_problem_is_told_not_only_the_first() -> None:
    source = document(
        {"a": {}, "b": {"type": "x.y", "links": {"p": "q"}, "mode": "off"}, "?": {}}, asks=[1], targets=["z"]
    )
    found = problems(source)
    assert found == [
        ("no_type", "/nodes/a/type"),
        ("bad_link", "/nodes/b/links/p"),
        ("bad_mode", "/nodes/b/mode"),
        ("bad_node_id", "/nodes/?"),
        ("bad_ask", "/asks/0"),
        ("unknown_target", "/targets/0"),
    ]


def test_a_refusal_has_what_a_client_needs() -> None:
    with pytest.raises(DocumentError) as caught:
        parse(json.dumps(document(node(links={"p": "b"}))))
    entry = caught.value.to_dict()
    assert entry["problems"] == [
        {
            "code": "bad_link",
            "message": "'b' is no link.",
            "remedy": 'Write "node.output".',
            "node": "a",
            "port": "p",
            "place": "/nodes/a/links/p",
        }
    ]
    assert str(caught.value) == "a.p: 'b' is no link. Write \"node.output\"."


# --- limits -------------------------------------------------------------------------------------------------------------


def test_the_size_is_limited_before_anything_is_read() -> None:
    text = json.dumps(document())
    parse(text, max_bytes=len(text))
    assert problems(text, max_bytes=len(text) - 1) == [("document_too_large", "/")]
    assert problems("{" * 100, max_bytes=99) == [("document_too_large", "/")]


def test_the_number_of_nodes_is_limited() -> None:
    nodes = {f"n{n}": {"type": "x.y"} for n in range(5)}
    parse(document(nodes), max_nodes=5)
    assert problems(document(nodes), max_nodes=4) == [("too_many_nodes", "/nodes")]


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_the_depth_is_limited_also_where_nobody_reads() -> None:
    # The document, "nodes", the node and "values" are four levels; the value has the rest.
    parse(document(node(values={"v": nested(6)})), max_depth=10)
    assert problems(document(node(values={"v": nested(7)})), max_depth=10) == [("too_deep", "/")]
    assert problems(document(ui=nested(100))) == [("too_deep", "/")]
    assert problems(document(ui=nested(900)), max_depth=899) == [("too_deep", "/")]


# --- what a document holds ----------------------------------------------------------------------------------------------


def test_a_whole_document() -> None:
    source = document(
        {
            "load": {"type": "m.load", "values": {"file": "ü.png"}, "title": "Katze", "ui": {"x": 1}},
            "show-1": {"type": "m.show", "links": {"image": "load.image"}, "mode": "muted"},
        },
        title="t",
        description="d",
        asks=[{"node": "load", "input": "file", "label": "Picture", "description": "any"}],
        targets=["show-1"],
        ui={"zoom": 1.5},
        note="unknown keys are kept",
    )
    found = parse(json.dumps(source))
    assert found == Document(
        "t",
        "d",
        {
            "load": DocumentNode("load", "m.load", {"file": "ü.png"}, {}, "active", "Katze"),
            "show-1": DocumentNode("show-1", "m.show", {}, {"image": ("load", "image")}, "muted", ""),
        },
        (Ask("load", "file", "Picture", "any"),),
        ("show-1",),
        source,
    )


def test_a_text_a_file_and_a_mapping_are_read_alike() -> None:
    source = document(title="Größe")
    assert parse(source) == parse(json.dumps(source)) == parse(json.dumps(source, ensure_ascii=False).encode())


def test_what_is_left_out_or_null_is_empty() -> None:
    found = parse(document({"a": {"type": "x.y", "title": None}}, title=None, description=None))
    assert (found.title, found.description, found.nodes["a"].title) == ("", "", "")
    assert parse(document({})).nodes == {}


def test_of_two_equal_names_the_last_counts() -> None:
    """JSON's usual rule; an editor never writes this."""
    text = '{"format": "anyloom", "version": 1, "nodes": {"a": {"type": "x.y"}, "a": {"type": "x.z"}}}'
    assert parse(text).nodes["a"].type == "x.z"


def test_an_output_name_may_have_dots_and_a_node_name_may_not() -> None:
    assert parse(document(node(links={"p": "b.out.put"}))).nodes["a"].links == {"p": ("b", "out.put")}


def test_any_unicode_comes_through() -> None:
    text = '{"format": "anyloom", "version": 1, "nodes": {"a": {"type": "x.y", "values": {"v": "\\ud83d\\ude00 \\u0000"}}}}'
    assert parse(text).nodes["a"].values == {"v": "\U0001f600 \x00"}


# --- override -----------------------------------------------------------------------------------------------------------


def test_override_writes_over_values_and_links() -> None:
    before = parse(document(node(values={"v": 1, "w": 2}, links={"p": "b.out", "q": "b.out"}, ui=5), title="t"))
    after = override(before, {"a.v": 10, "a.p": [1], "a.new": None})
    assert after.nodes["a"].values == {"v": 10, "w": 2, "p": [1], "new": None}
    assert after.nodes["a"].links == {"q": ("b", "out")}
    assert after.raw["nodes"]["a"]["ui"] == 5
    assert before.nodes["a"].values == {"v": 1, "w": 2}
    assert before.raw["nodes"]["a"]["links"] == {"p": "b.out", "q": "b.out"}


def test_what_override_made_can_be_saved_and_read_again() -> None:
    after = override(parse(document(node(links={"p": "b.out", "q": "b.out"}))), {"a.p": 1})
    assert parse(json.dumps(after.raw)) == after


def test_an_input_name_may_have_dots_in_an_override() -> None:
    assert override(parse(document()), {"a.x.y": 1}).nodes["a"].values == {"x.y": 1}


def test_override_of_what_is_not_there() -> None:
    with pytest.raises(DocumentError) as caught:
        override(parse(document()), {"b.v": 1, "a": 2, "a.": 3, "a.v": 4})
    assert [(problem.code, problem.place) for problem in caught.value.problems] == [
        ("unknown_override", "b.v"),
        ("unknown_override", "a"),
        ("unknown_override", "a."),
    ]
    assert "nodes: a." in caught.value.problems[0].remedy
