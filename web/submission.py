"""A request to run or validate a workflow, as both doors (HTTP and websocket) take it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from graph_engine.errors import RequestError
from graph_engine.record import RunRecord
from web import fields
from web.state import House

PRIORITIES = range(-1000, 1001)
MAX_WISHES = 1000


class Submission(NamedTuple):
    """Exactly one of `document` and `workflow`; the rest as `Engine.submit` takes it."""

    document: Mapping[str, Any] | None
    workflow: str
    values: dict[str, Any]
    targets: list[str] | None
    priority: int
    name: str
    pins: dict[str, str]
    breakpoints: list[str]

    @classmethod
    def of(cls, message: Mapping[str, Any], *more: str) -> Submission:
        """more: fields beside those of a submission, which others read. Raises RequestError that names the field."""
        document, workflow = message.get("document"), message.get("workflow")
        if (document is None) == (workflow is None):
            raise RequestError(
                "a submission has either a document or the name of a saved workflow.",
                remedy='Send {"document": {...}} or {"workflow": "name"}.',
                code="no_document",
            )
        fields.only(message, (*cls._fields, *more))
        if document is not None and not isinstance(document, Mapping):
            raise _field("document", "a JSON object")
        if workflow is not None and not isinstance(workflow, str):
            raise _field("workflow", "a name")
        values = message.get("values")
        if values is not None and not isinstance(values, Mapping):
            raise _field("values", 'an object such as {"prompt.text": "..."}')
        targets = message.get("targets")
        if targets is not None and not (isinstance(targets, list) and all(isinstance(name, str) for name in targets)):
            raise _field("targets", "a list of node ids")
        priority = priority_of(message)
        name = message.get("name")
        if name is not None and (not isinstance(name, str) or len(name) > 200):
            raise _field("name", "a text of at most 200 characters")
        pins = message.get("pins")
        if pins is not None and not (isinstance(pins, Mapping) and all(isinstance(key, str) for key in pins.values())):
            raise _field("pins", 'an object such as {"node": "id of a run, or key of an artifact"}')
        breakpoints = message.get("breakpoints")
        if breakpoints is not None and not (
            isinstance(breakpoints, list) and all(isinstance(node, str) for node in breakpoints)
        ):
            raise _field("breakpoints", "a list of node ids")
        wishes = dict(pins or {}), breakpoints or []
        if any(len(wish) > MAX_WISHES for wish in wishes):
            raise _field("pins and breakpoints", f"at most {MAX_WISHES}")
        return cls(document, workflow or "", dict(values or {}), targets, priority, name or "", *wishes)

    async def resolve(self, house: House) -> Mapping[str, Any]:
        """The document itself."""
        if self.document is not None:
            return self.document
        return await asyncio.to_thread(house.library.load, self.workflow)

    async def submit(self, house: House, client: str = "") -> RunRecord:
        if house.stopping:
            raise RequestError("the server is stopping.", remedy="Submit again when it is back.", code="stopping")
        document = await self.resolve(house)
        return await house.engine.submit(
            document,
            values=self.values,
            targets=self.targets,
            priority=self.priority,
            client=client,
            name=self.name,
            pins=self.pins,
            breakpoints=self.breakpoints,
        )

    async def validate(self, house: House) -> dict[str, Any]:
        return await house.engine.validate(await self.resolve(house), values=self.values, targets=self.targets)


def priority_of(message: Mapping[str, Any], *, needed: bool = False) -> int:
    """Raises RequestError that names the field."""
    priority = message.get("priority")
    priority = 0 if priority is None and not needed else priority
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise _field("priority", f"a whole number in {PRIORITIES[0]}..{PRIORITIES[-1]}")
    return priority


def _field(name: str, wanted: str) -> RequestError:
    return RequestError(f'"{name}" must be {wanted}.', remedy="Correct this field.", code="bad_field", place=f"/{name}")
