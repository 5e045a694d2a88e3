"""A node is a typed function; `@node` reads its signature and publishes it as a `NodeType`.

    @node(id="media.invert", version="1.0.0", category="media/image")
    def invert(image: Image, strength: Annotated[float, Widget(min=0, max=1)] = 1.0) -> Image:
        '''Turn dark into light.'''
        return image + (1 - 2 * image) * strength

The ports are the signature: parameters are inputs, the return annotation names the outputs (a NamedTuple for several),
defaults make inputs optional, `list[Image]` takes or gives whole lists, `Annotated[Image, LAZY]` is evaluated on demand,
`**more: AnyValue` accepts any number of named inputs, a TypeVar ties the kinds of ports together.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from graph_engine.errors import KindError, RegistryError
from graph_engine.graph import kinds
from graph_engine.graph.context import NodeContext
from graph_engine.graph.docstring import port_words
from graph_engine.graph.kinds import Kind, ModelKind
from graph_engine.graph.port import Input, Output, Widget


class Effect(enum.Enum):
    """What running a node does besides returning values; decides whether its result may be reused."""

    PURE = "pure"
    """Same inputs, same outputs."""
    SEEDED = "seeded"
    """Random, but wholly determined by its seed, which is an input."""
    EXTERNAL = "external"
    """Reads a clock, writes a file, calls a service: done once per run, never taken from the cache."""


class _Lazy:
    def __repr__(self) -> str:
        return "LAZY"


LAZY = _Lazy()
"""Marks a lazy input: `on_true: Annotated[AnyValue, LAZY]`. Its value is `UNSET` until the node asked with `Need`."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job of this type occupies.

    device         runs in the lane of a device, one job at a time (a node that computes with models)
    inline         takes microseconds and does no input or output: run on the event loop, without a thread
    working_bytes  device memory beside the weights, a number or a function of the literals; reserved while the job runs
    passes         how often its models go through their blocks, as `working_bytes`; said before a run, of models that do not
                   fit: a token or a denoising step is a pass, and each copies what does not stay
    models         what the node asks `context.model` for, where that is not what arrives at its model ports: (literals and
                   the specs that arrived, by port) -> specs; memory is prepared for these
    timeout_s      an attempt that takes longer fails
    retries        attempts after a failure of the node (a service that hiccups); three at most
    """

    device: bool = False
    inline: bool = False
    working_bytes: int | Callable[[dict[str, Any]], int] = 0
    passes: int | Callable[[dict[str, Any]], int] = 1
    models: Callable[[Mapping[str, Any]], Iterable[Any]] | None = None
    timeout_s: float | None = None
    retries: int = 0


MORE_PORTS_KEPT = 20_000

Reads = Callable[[Mapping[str, Any]], Iterable[str]]
"""literals -> names of files in the models folder"""


@dataclass(frozen=True, slots=True)
class NodeType:
    """A published node. Made from a function by `@node`, never by hand."""

    id: str
    version: str
    category: str
    title: str
    description: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    effect: Effect
    needs: Needs
    function: Callable[..., Any]
    is_output: bool
    is_async: bool
    takes_files: bool
    """Some literal names a file of the input folder."""
    reads: Reads | None
    """Which files of the models folder a call reads, as a function of its literals: names to be stamped into the key."""
    is_lazy: bool
    """Some input is lazy."""
    context_name: str
    """Name of the parameter of type `NodeContext`, or empty."""
    more: Input | None
    """Stands for any number of further inputs (`**more` in the signature)."""
    origin: str
    """Module and line, for messages about two packs that claim one id."""
    lane: str
    skips: bool
    """It may leave outputs without a value: what reads them is not certain to run."""
    list_flags: tuple[bool, ...]
    """Which outputs are lists, one flag per output; empty when none is."""
    plain_inputs: bool
    """No input is lazy or takes whole lists."""
    takes_models: bool
    """Some input is of a model kind."""
    bare: bool
    """A call needs its inputs and nothing else: no context, no memory to be reserved, no limit of time."""
    by_name: dict[str, Input] = field(repr=False)
    output_index: dict[str, int] = field(repr=False)
    more_ports: dict[str, Input] = field(repr=False)
    """Further inputs that were asked for by name."""

    def input(self, name: str) -> Input | None:
        """The input of this name, a further one where the type takes any, or None."""
        found = self.by_name.get(name)
        if found is None and self.more is not None and name.isidentifier() and name != self.context_name:
            found = self.more_ports.get(name)
            if found is None:
                found = replace(self.more, name=name)
                if len(self.more_ports) < MORE_PORTS_KEPT:
                    self.more_ports[name] = found
        return found

    def to_dict(self) -> dict[str, Any]:
        """As `GET /api/v1/nodes` shows it."""
        more = (self.more,) if self.more else ()
        words = port_words(self.description, tuple(port.name for port in (*self.inputs, *more, *self.outputs)))
        return {
            "id": self.id,
            "version": self.version,
            "category": self.category,
            "title": self.title,
            "description": self.description,
            "inputs": [port.to_dict(words.get(port.name, "")) for port in self.inputs],
            "more": self.more.to_dict(words.get(self.more.name, "")) if self.more else None,
            "outputs": [port.to_dict(words.get(port.name, "")) for port in self.outputs],
            "effect": self.effect.value,
            "output": self.is_output,
            "lane": self.lane,
        }


F = TypeVar("F", bound=Callable[..., Any])
_PLAIN: dict[Any, Kind] = {
    str: kinds.STRING,
    int: kinds.INT,
    float: kinds.FLOAT,
    bool: kinds.BOOLEAN,
    dict: kinds.JSON,
    Any: kinds.ANY,
}


def node(
    *,
    id: str,
    version: str = "1.0.0",
    category: str = "",
    title: str = "",
    effect: Effect = Effect.PURE,
    needs: Needs | None = None,
    output: bool = False,
    reads: Reads | None = None,
    skips: bool = False,
) -> Callable[[F], F]:
    """Publish a function as a node type. `output=True`: a workflow runs for the sake of this node.

    reads: literals -> names of files in the models folder on which the result rests ("sd15/unet.safetensors", "sd15/*"
    for all that match, absolute ones for files elsewhere). When one of them changes, so does the content key. Input files
    named by a literal with an upload widget need no mention.

    skips: the node may answer with a `Skip`; the models of what reads it are not brought into memory before it has run.

    The function stays callable as it is; its type is `function.node_type`. Raises RegistryError for a signature that
    says too little, at import, with file and line.
    """

    def publish(function: F) -> F:
        made = read(function, id, version, category, title, effect, needs or Needs(), output, reads, skips)
        function.node_type = made  # type: ignore[attr-defined]
        return function

    return publish


def read(
    function: Callable[..., Any],
    id: str,
    version: str,
    category: str,
    title: str,
    effect: Effect,
    needs: Needs,
    output: bool,
    reads: Reads | None = None,
    skips: bool = False,
) -> NodeType:
    """The node type that a function's signature describes."""
    origin = f"{function.__module__}:{inspect.unwrap(function).__code__.co_firstlineno}"
    where = f"node {id!r} ({origin})"
    pack, _, name = id.partition(".")
    if not name or not all(part.isidentifier() for part in (pack, *name.split("."))):
        raise RegistryError(f"{where}: an id is 'pack.name' in letters, digits and underscores.")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise RegistryError(f"{where}: its annotations cannot be read: {error}.") from error
    inputs: list[Input] = []
    more: Input | None = None
    context_name = ""
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if hint is None:
            raise RegistryError(f"{where}: parameter {parameter.name!r} has no annotation, so it has no kind.")
        if isinstance(hint, type) and issubclass(hint, NodeContext):
            context_name = parameter.name
        elif parameter.kind is parameter.VAR_KEYWORD:
            more = replace(_input(parameter.name, hint, None, where), required=False)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            raise RegistryError(f"{where}: *{parameter.name} has no port names.", remedy="Use **inputs or list[...].")
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise RegistryError(
                f"{where}: {parameter.name!r} is positional only; inputs are given by name.", remedy="Drop the '/'."
            )
        else:
            inputs.append(_input(parameter.name, hint, parameter.default, where))
    if "return" not in hints:
        raise RegistryError(f"{where}: no return annotation, so it has no outputs.", remedy="Use -> None for none.")
    outputs = _outputs(hints["return"], where)
    every = [*inputs, more] if more is not None else inputs
    is_async = inspect.iscoroutinefunction(function)
    lane = "async" if is_async else "device" if needs.device else "inline" if needs.inline else "pool"
    return NodeType(
        id=id,
        version=version,
        category=category or pack,
        title=title or name.replace("_", " ").capitalize(),
        description=inspect.getdoc(function) or "",
        inputs=tuple(inputs),
        outputs=outputs,
        effect=effect,
        needs=needs,
        function=function,
        is_output=output,
        is_async=is_async,
        takes_files=any(port.widget is not None and bool(port.widget.upload) for port in inputs),
        reads=reads,
        is_lazy=any(port.lazy for port in every),
        context_name=context_name,
        more=more,
        origin=origin,
        lane=lane,
        skips=skips,
        list_flags=tuple(port.as_list for port in outputs) if any(port.as_list for port in outputs) else (),
        plain_inputs=not any(port.lazy or port.as_list for port in every),
        takes_models=any(isinstance(port.kind, ModelKind) for port in every),
        bare=not (context_name or needs.working_bytes or needs.timeout_s is not None),
        by_name={port.name: port for port in inputs},
        output_index={port.name: index for index, port in enumerate(outputs)},
        more_ports={},
    )


@dataclass(slots=True)
class _Hint:
    kind: Kind
    widget: Widget | None = None
    as_list: bool = False
    lazy: bool = False
    match: str = ""


def _resolve(hint: Any, where: str) -> _Hint:
    """Take an annotation apart: Optional, Annotated, list, Literal, TypeVar, a plain type or a kind."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) == 1:
            return _resolve(rest[0], where)
    if isinstance(hint, TypeVar):
        return _Hint(kinds.ANY, match=hint.__name__)
    if get_origin(hint) is typing.Annotated:
        base, *extras = get_args(hint)
        kind = next((extra for extra in extras if isinstance(extra, Kind)), None)
        found = _Hint(kind) if kind is not None else _resolve(base, where)
        for extra in extras:
            if isinstance(extra, Widget):
                options = found.widget.options if found.widget and extra.options is None else extra.options
                found.widget = replace(extra, options=options)
            elif extra is LAZY:
                found.lazy = True
        return found
    if get_origin(hint) is list:
        found = _resolve(get_args(hint)[0], where)
        found.as_list = True
        return found
    if get_origin(hint) is Literal:
        return _Hint(kinds.COMBO, Widget(options=tuple(map(str, get_args(hint)))))
    plain = _PLAIN.get(get_origin(hint) or hint)
    if plain is None:
        raise RegistryError(
            f"{where}: {hint!r} is no kind.", remedy="Use str, int, float, bool, Literal or a kind of graph_engine."
        )
    return _Hint(plain)


def _input(name: str, hint: Any, default: Any, where: str) -> Input:
    found = _resolve(hint, where)
    required = default is inspect.Parameter.empty
    port = Input(
        name, found.kind, required, None if required else default, found.widget, found.as_list, found.lazy, found.match
    )
    if not required and default is not None:
        if isinstance(found.kind, ModelKind) or not found.kind.literal:
            raise RegistryError(f"{where}: {name!r} of kind {found.kind} can have no default but None.")
        try:
            port = replace(port, default=port.literal(default))
        except KindError as error:
            message = f"{where}: the default of {name!r} does not fit: {error.message}"
            raise RegistryError(message, remedy=error.problem.remedy) from error
    return port


def _outputs(hint: Any, where: str) -> tuple[Output, ...]:
    if hint is None or hint is type(None):
        return ()
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        named = typing.get_type_hints(hint, include_extras=True)
        pairs = [(name, _resolve(named[name], where)) for name in hint._fields]
    else:
        found = _resolve(hint, where)
        pairs = [(found.kind.port_name, found)]
    return tuple(Output(name, found.kind, found.as_list, found.match) for name, found in pairs)
