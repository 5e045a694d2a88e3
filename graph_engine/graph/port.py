"""Ports: the typed inputs and outputs of a node type, and the widgets that inputs show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graph_engine.errors import KindError
from graph_engine.graph.kinds import Kind, describe

WIDGETS = ("number", "slider", "seed", "boolean", "combo", "text", "multiline", "color", "file", "json", "any")
"""Every type of widget that an editor has to know."""
SLIDER_STEPS = 1000
"""A number with both bounds and at most so many steps between them is a slider."""
_BY_KIND = {
    "INT": "number",
    "FLOAT": "number",
    "BOOLEAN": "boolean",
    "COMBO": "combo",
    "STRING": "text",
    "JSON": "json",
}


@dataclass(frozen=True, slots=True)
class Widget:
    """How a person enters a literal, and which literals are allowed. Put it into `Annotated[...]`.

    min, max   bounds of a number (inclusive), or of the length of a text
    step       what one click changes
    options    the allowed words of a COMBO (from `Literal[...]` when left out)
    multiline  a text area instead of a line
    upload     a file of this media type in the input folder: "image", "audio", "video", "text" or "*"
    control    "seed": the editor may change the number after every run
    suggest    "models": names of files and folders of the models folder are offered, others may be written
    style      how it looks where that does not follow from the rest: "color" for #rrggbb, "slider"
    label      what the editor shows instead of the port's name
    """

    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: tuple[str, ...] | None = None
    multiline: bool = False
    upload: str = ""
    control: str = ""
    suggest: str = ""
    style: str = ""
    label: str = ""
    placeholder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Only what was set; 0 is a value, None, False and "" are not."""
        entries = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: value for name, value in entries.items() if value is not None and value is not False and value != ""
        }


@dataclass(frozen=True, slots=True)
class Input:
    """One input port.

    as_list   the node takes the whole list that arrives here (others are mapped over lists, item by item)
    lazy      evaluated only when the node answers `Need(port)`
    match     inputs and outputs with the same `match` carry the same kind within one node
    """

    name: str
    kind: Kind
    required: bool
    default: Any = None
    widget: Widget | None = None
    as_list: bool = False
    lazy: bool = False
    match: str = ""

    def literal(self, value: Any) -> Any:
        """`value` as the node will get it. Raises KindError when it is of another kind or outside the widget's bounds."""
        if value is None and not self.required and self.default is None:
            return None
        if self.as_list:
            return [self._one(entry) for entry in (value if isinstance(value, list) else [value])]
        return self._one(value)

    def _one(self, value: Any) -> Any:
        if not self.kind.literal:
            raise KindError(
                f"a value of kind {self.kind} cannot be written into a workflow, got {describe(value)}.",
                remedy=f"Link it to an output of kind {self.kind}.",
                code="not_a_literal",
            )
        value = self.kind.check(value)
        widget = self.widget
        if widget is None:
            return value
        if widget.options is not None and isinstance(value, str) and value not in widget.options:
            listed = ", ".join(widget.options[:20]) + (", ..." if len(widget.options) > 20 else "")
            raise KindError(f"{value!r} is not one of: {listed}.", remedy="Choose one of these.", code="not_an_option")
        if widget.min is not None or widget.max is not None:
            size = len(value) if isinstance(value, str) else value
            low, high = widget.min, widget.max
            if (low is not None and size < low) or (high is not None and size > high):
                bounds = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
                raise KindError(
                    f"{size} is outside {bounds}.", remedy=f"Choose a value in {bounds}.", code="out_of_range"
                )
        return value

    @property
    def widget_type(self) -> str:
        """One of WIDGETS; empty for what can only be linked."""
        widget = self.widget
        if not self.kind.literal:
            return ""
        if widget is not None:
            if widget.style:
                return widget.style
            if widget.upload:
                return "file"
            if widget.control == "seed":
                return "seed"
            if widget.options is not None:
                return "combo"
            if widget.multiline:
                return "multiline"
        found = _BY_KIND.get(self.kind.name, "any")
        if found == "number" and widget is not None and widget.min is not None and widget.max is not None:
            step = widget.step or (1 if self.kind.name == "INT" else 0)
            if step and (widget.max - widget.min) / step <= SLIDER_STEPS:
                return "slider"
        return found

    def to_dict(self, words: str = "") -> dict[str, Any]:
        """words: what the docstring says of it. `widget` is there exactly if a literal can be written into a workflow."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind.name, "required": self.required}
        if words:
            entry["description"] = words
        if not self.required:
            entry["default"] = self.default
        if self.kind.literal:
            entry["widget"] = {"type": self.widget_type, **(self.widget.to_dict() if self.widget is not None else {})}
            if self.kind.name == "INT":
                entry["widget"]["integer"] = True
        for flag in ("as_list", "lazy"):
            if getattr(self, flag):
                entry[flag] = True
        if self.match:
            entry["match"] = self.match
        return entry


@dataclass(frozen=True, slots=True)
class Output:
    """One output port. `as_list`: the node returns a list, over which readers are mapped."""

    name: str
    kind: Kind
    as_list: bool = False
    match: str = ""

    def to_dict(self, words: str = "") -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind.name}
        if words:
            entry["description"] = words
        if self.as_list:
            entry["as_list"] = True
        if self.match:
            entry["match"] = self.match
        return entry
