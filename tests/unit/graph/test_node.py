"""A function's signature is its ports: everything that can be said, and everything that says too little."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar

import pytest

from graph_engine import (
    LAZY,
    AnyValue,
    Effect,
    Encoder,
    Image,
    Json,
    Kind,
    Mask,
    Needs,
    NodeContext,
    Widget,
    node,
)
from graph_engine.errors import KindError, RegistryError
from graph_engine.graph.node import NodeType
from graph_engine.graph.port import Input

T = TypeVar("T")


def typed(function: Callable[..., Any], id: str = "trial.function", **options: Any) -> NodeType:
    found: NodeType = node(id=id, **options)(function).node_type
    return found


def ports(function: Callable[..., Any]) -> dict[str, Input]:
    return typed(function).by_name


# --- what a signature says --------------------------------------------------------------------------------------------


def test_parameters_are_inputs_and_defaults_make_them_optional() -> None:
    def function(a: int, b: float = 1.5, c: str = "x", d: bool = False) -> str: ...

    type = typed(function)
    assert [(port.name, port.kind.name, port.required, port.default) for port in type.inputs] == [
        ("a", "INT", True, None),
        ("b", "FLOAT", False, 1.5),
        ("c", "STRING", False, "x"),
        ("d", "BOOLEAN", False, False),
    ]
    assert [(port.name, port.kind.name) for port in type.outputs] == [("text", "STRING")]


def test_a_default_has_the_form_that_the_same_literal_has() -> None:
    """Else a workflow that writes the default out would be other work than one that leaves it out."""

    def function(scale: float = 1, names: list[str] = "x") -> int: ...  # type: ignore[assignment]

    found = ports(function)
    assert type(found["scale"].default) is float
    assert found["scale"].default == found["scale"].literal(1)
    assert found["names"].default == found["names"].literal("x") == ["x"]


def test_a_widget_gives_bounds_and_options() -> None:
    def function(
        a: Annotated[int, Widget(min=1, max=9)],
        b: Literal["x", "y"],
        c: Annotated[Literal["x", "y"], Widget(label="C")],
        d: Annotated[str, Widget(max=3)],
    ) -> int: ...

    found = ports(function)
    assert found["a"].literal(9) == 9
    with pytest.raises(KindError, match=r"10 is outside 1\.\.9") as outside:
        found["a"].literal(10)
    assert outside.value.problem.code == "out_of_range"
    assert found["b"].kind.name == "COMBO"
    for name in ("b", "c"):
        assert found[name].literal("y") == "y"
        with pytest.raises(KindError, match="'z' is not one of: x, y") as unknown:
            found[name].literal("z")
        assert unknown.value.problem.code == "not_an_option"
    assert found["c"].widget is not None
    assert found["c"].widget.to_dict() == {"options": ("x", "y"), "label": "C"}
    assert found["d"].literal("abc") == "abc"
    with pytest.raises(KindError, match=re.escape("4 is outside ..3")):
        found["d"].literal("abcd")


def test_zero_is_a_bound() -> None:
    def function(a: Annotated[int, Widget(min=0)] = 0, b: Annotated[float, Widget(max=0)] = 0) -> int: ...

    found = ports(function)
    assert found["a"].widget is not None
    assert found["a"].widget.to_dict() == {"min": 0}
    for name, value in (("a", -1), ("b", 0.5)):
        with pytest.raises(KindError):
            found[name].literal(value)


def test_none_as_default_means_nothing_there() -> None:
    def function(
        a: Optional[int] = None,  # noqa: UP045 - both spellings are read
        b: Image | None = None,
        c: list[str] | None = None,
    ) -> int: ...

    found = ports(function)
    assert [found[name].kind.name for name in "abc"] == ["INT", "IMAGE", "STRING"]
    assert [found[name].literal(None) for name in "abc"] == [None, None, None]
    assert found["c"].as_list


def test_lists_are_taken_whole_and_one_literal_is_a_list_of_one() -> None:
    def function(a: list[int], b: int) -> list[Image]: ...

    type = typed(function)
    assert (type.by_name["a"].as_list, type.by_name["b"].as_list) == (True, False)
    assert type.by_name["a"].literal([1, 2.0]) == [1, 2]
    assert type.by_name["a"].literal(3) == [3]
    assert type.by_name["a"].literal([]) == []
    with pytest.raises(KindError):
        type.by_name["a"].literal([1, "x"])
    with pytest.raises(KindError):
        type.by_name["b"].literal([1])
    assert (type.outputs[0].as_list, type.list_flags) == (True, (True,))
    assert typed(lambda_int).list_flags == ()


def lambda_int(a: int) -> int:
    return a


def test_lazy_inputs_and_tied_kinds() -> None:
    def function(flag: bool, a: Annotated[T, LAZY], b: Annotated[list[T], LAZY]) -> T: ...

    type = typed(function)
    assert [(port.lazy, port.match, port.as_list) for port in type.inputs] == [
        (False, "", False),
        (True, "T", False),
        (True, "T", True),
    ]
    assert (type.outputs[0].name, type.outputs[0].match, type.outputs[0].kind.name) == ("value", "T", "*")


def test_any_number_of_further_inputs() -> None:
    def function(a: int, context: NodeContext, **more: Image) -> int: ...

    type = typed(function)
    assert type.more is not None
    further = type.input("picture7")
    assert further is not None
    assert (further.name, further.kind.name, further.required) == ("picture7", "IMAGE", False)
    assert type.input("a") is type.by_name["a"]
    for refused in ("not a name", "1st", "", "context"):
        assert type.input(refused) is None
    assert typed(lambda_int, "trial.other").input("picture7") is None


def test_a_named_tuple_names_the_outputs() -> None:
    class Split(NamedTuple):
        picture: Image
        masks: list[Mask]
        count: int

    def function(a: int) -> Split: ...

    function.__annotations__["return"] = Split  # a local class is not found by name
    type = typed(function)
    assert [(port.name, port.kind.name, port.as_list) for port in type.outputs] == [
        ("picture", "IMAGE", False),
        ("masks", "MASK", True),
        ("count", "INT", False),
    ]
    assert type.list_flags == (False, True, False)
    assert type.output_index == {"picture": 0, "masks": 1, "count": 2}


def test_no_outputs() -> None:
    def function(a: int) -> None: ...

    assert typed(function).outputs == ()


def test_the_context_is_no_port() -> None:
    def function(context: NodeContext, a: int) -> int: ...

    type = typed(function)
    assert type.context_name == "context"
    assert list(type.by_name) == ["a"]


def test_a_pack_brings_kinds_of_its_own() -> None:
    mesh = Kind("MESH", port_name="mesh")

    def function(a: int) -> int: ...

    function.__annotations__.update({"a": Annotated[Any, mesh], "return": Annotated[Any, mesh]})
    type = typed(function)
    assert type.inputs[0].kind is mesh
    assert type.outputs[0].name == "mesh"


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [(dict, "JSON"), (dict[str, Any], "JSON"), (Any, "*"), (Json, "JSON"), (AnyValue, "*"), (Encoder, "ENCODER")],
)
def test_plain_types_are_kinds(annotation: Any, kind: str) -> None:
    def function(a: int) -> int: ...

    function.__annotations__["a"] = annotation
    assert ports(function)["a"].kind.name == kind


async def in_a_task(a: int) -> int:
    return a


@pytest.mark.parametrize(
    ("needs", "lane"),
    [(Needs(), "pool"), (Needs(device=True), "device"), (Needs(inline=True), "inline")],
)
def test_where_a_node_runs(needs: Needs, lane: str) -> None:
    assert typed(lambda_int, needs=needs).lane == lane
    asynchronous = typed(in_a_task, needs=needs)
    assert (asynchronous.lane, asynchronous.is_async) == ("async", True)


def test_what_an_editor_is_told() -> None:
    def function(a: Annotated[list[int], Widget(min=0), LAZY], b: T, **more: AnyValue) -> T:
        """First line.

        More.
        """

    entry = typed(function, "pack.deep.the_name", version="2.0.0", effect=Effect.EXTERNAL, output=True).to_dict()
    assert (entry["category"], entry["title"], entry["version"]) == ("pack", "Deep.the name", "2.0.0")
    assert entry["description"] == "First line.\n\nMore."
    assert (entry["effect"], entry["output"], entry["lane"]) == ("external", True, "pool")
    assert entry["inputs"] == [
        {
            "name": "a",
            "kind": "INT",
            "required": True,
            "widget": {"type": "number", "min": 0, "integer": True},
            "as_list": True,
            "lazy": True,
        },
        {"name": "b", "kind": "*", "required": True, "match": "T", "widget": {"type": "any"}},
    ]
    assert entry["more"] == {"name": "more", "kind": "*", "required": False, "default": None, "widget": {"type": "any"}}
    assert entry["outputs"] == [{"name": "value", "kind": "*", "match": "T"}]


def test_the_function_stays_what_it_was() -> None:
    published = node(id="trial.function")(lambda_int)
    assert published is lambda_int
    assert published(3) == 3


def test_a_value_of_a_tensor_kind_is_no_literal() -> None:
    def function(a: Image) -> int: ...

    with pytest.raises(KindError, match="cannot be written into a workflow") as caught:
        ports(function)["a"].literal([[0.5]])
    assert caught.value.problem.code == "not_a_literal"
    assert "Link it to an output of kind IMAGE" in caught.value.problem.remedy


# --- what says too little ---------------------------------------------------------------------------------------------


def no_parameter_annotation(a) -> int: ...  # type: ignore[no-untyped-def]
def no_return_annotation(a: int): ...  # type: ignore[no-untyped-def]
def unknown_name(a: Nowhere) -> int: ...  # type: ignore[name-defined]  # noqa: F821
def no_kind(a: set) -> int: ...  # type: ignore[type-arg]
def no_kind_out(a: int) -> tuple[int, str]: ...
def union_of_two(a: int | str) -> int: ...
def list_of_nothing(a: list) -> int: ...  # type: ignore[type-arg]
def stars(*a: int) -> int: ...
def positional(a: int, /) -> int: ...
def default_of_a_tensor(a: Image = 3) -> int: ...
def default_of_a_model(a: Encoder = 3) -> int: ...
def default_of_another_kind(a: int = "x") -> int: ...  # type: ignore[assignment]
def default_out_of_bounds(a: Annotated[int, Widget(min=1)] = 0) -> int: ...
def default_no_option(a: Literal["x", "y"] = "z") -> int: ...  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("function", "essence"),
    [
        (no_parameter_annotation, "parameter 'a' has no annotation"),
        (no_return_annotation, "no return annotation"),
        (unknown_name, "annotations cannot be read: name 'Nowhere' is not defined"),
        (no_kind, "<class 'set'> is no kind"),
        (no_kind_out, "tuple[int, str] is no kind"),
        (union_of_two, "int | str is no kind"),
        (list_of_nothing, "<class 'list'> is no kind"),
        (stars, "*a has no port names"),
        (positional, "'a' is positional only"),
        (default_of_a_tensor, "'a' of kind IMAGE can have no default but None"),
        (default_of_a_model, "'a' of kind ENCODER can have no default but None"),
        (default_of_another_kind, "the default of 'a' does not fit: expected a whole number, got str 'x'"),
        (default_out_of_bounds, "the default of 'a' does not fit: 0 is outside 1.."),
        (default_no_option, "the default of 'a' does not fit: 'z' is not one of: x, y"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_signature_that_says_too_little_is_refused_with_its_place(function: Callable[..., Any], essence: str) -> None:
    with pytest.raises(RegistryError) as caught:
        typed(function)
    message = caught.value.message
    assert essence in message
    assert message.startswith(f"node 'trial.function' ({__name__}:{function.__code__.co_firstlineno})")


@pytest.mark.parametrize("id", ["", "noname", "pack.", ".name", "pack.two words", "pack.a..b", "1.a", "pack/x.y"])
def test_an_id_is_pack_and_name(id: str) -> None:
    with pytest.raises(RegistryError, match=re.escape("an id is 'pack.name'")):
        typed(lambda_int, id)
