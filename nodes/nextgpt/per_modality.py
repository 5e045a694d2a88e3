"""A port for each modality: one parameter (or one output field) in the code is a port per row of the table on the node.

    @node(id="nextgpt.assemble")
    @per_modality(media=lambda row: Port(f"{row.name}s", GenericAlias(list, row.media), None))
    def assemble(reply: Reply, *, media: Mapping[str, Any]) -> Assembled:

has the inputs `reply`, `images`, `videos`, `audios`; the function gets `media = {"image": ..., "video": ..., ...}`.

    @per_modality(signals=lambda row: Port(row.name, list[Signals]))
    class Routed(NamedTuple):
        text: str
        signals: Any
        reply: Reply

is the NamedTuple `text, image, video, audio, reply`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from nodes.nextgpt.modality import SPOKEN, Modality


@dataclass(frozen=True)
class Port:
    """One port of one modality: its name, its annotation and, for an input, its default."""

    name: str
    hint: Any
    default: Any = inspect.Parameter.empty


Ports = Callable[[Modality], Port | list[Port]]
"""The port (or, for an output field, the ports) of a row."""


def per_modality(**each: Ports) -> Callable[[Any], Any]:
    """Replace the parameters or fields of these names by the ports of every modality that can be spoken."""

    def expand(target: Any) -> Any:
        there = getattr(target, "_fields", None) or inspect.signature(target).parameters
        if lacking := each.keys() - set(there):
            raise TypeError(f"{target.__qualname__} has no {', '.join(sorted(lacking))} to make ports of")
        return _fields(target, each) if isinstance(target, type) else _parameters(target, each)

    return expand


def _fields(form: Any, each: dict[str, Ports]) -> Any:
    """A NamedTuple like `form` with the wider fields."""
    hints = typing.get_type_hints(form, include_extras=True)
    fields: list[tuple[str, Any]] = []
    for name in form._fields:
        if name not in each:
            fields.append((name, hints[name]))
            continue
        for row in SPOKEN.values():
            ports = each[name](row)
            fields += [(port.name, port.hint) for port in (ports if isinstance(ports, list) else [ports])]
    made: Any = NamedTuple(form.__name__, fields)  # type: ignore[misc]
    made.__module__, made.__doc__ = form.__module__, form.__doc__
    return made


def _parameters(function: Callable[..., Any], each: dict[str, Ports]) -> Callable[..., Any]:
    """A function with the wider signature, which hands `function` a dict {modality: value} for each of `each`."""
    hints = typing.get_type_hints(function, include_extras=True)
    ports: dict[str, dict[str, Any]] = {
        name: {row.name: of(row) for row in SPOKEN.values()} for name, of in each.items()
    }
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in each:
            hints.pop(parameter.name, None)
            for port in ports[parameter.name].values():
                hints[port.name] = port.hint
                parameters.append(inspect.Parameter(port.name, parameter.KEYWORD_ONLY, default=port.default))
        else:
            parameters.append(parameter)
    signature = inspect.Signature(parameters)

    @functools.wraps(function)
    def gather(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        for name, of_row in ports.items():
            given.arguments[name] = {row: given.arguments.pop(port.name) for row, port in of_row.items()}
        return function(**given.arguments)

    gather.__signature__ = signature  # type: ignore[attr-defined]
    gather.__annotations__ = hints
    return gather
