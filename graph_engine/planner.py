"""Planner: from what a client sends to a plan, off the loop when it is large, and remembered for the next time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import glob
from typing import Any, NamedTuple

from graph_engine import collector
from graph_engine.errors import RequestError
from graph_engine.graph.document import Document, dump_json, override, parse
from graph_engine.graph.expand import expand
from graph_engine.graph.fingerprint import digest
from graph_engine.graph.graph import Graph, resolve
from graph_engine.graph.plan import MODELS, Plan, Stamp, Unread, make_plan
from graph_engine.graph.registry import Registry
from graph_engine.settings import Settings

Source = str | bytes | Mapping[str, Any]

LARGE_DOCUMENT_BYTES, LARGE_DOCUMENT_NODES = 24 * 1024, 200
"""Documents above this are checked and planned in a thread, so that the loop stays free (law P10)."""
PLANNED_STEPS_KEPT = 12_000
"""Plans of recent documents are kept up to so many steps in all, so that submitting one again costs a look-up."""


FREE_AT_ONCE = 64
"""Parts of a forgotten plan, before others get their turn."""


class Planned(NamedTuple):
    """A document that was checked, with the digests of the files that its plan rests on."""

    document: Document
    plan: Plan
    stamps: dict[str, str]


class Planner:
    """digest: file name in the input folder -> digest of its content; is_quick: whether that may be asked on the loop."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        digest: Callable[[str], str],
        is_quick: Callable[[str], bool] = lambda file: True,
    ) -> None:
        self.settings, self.registry, self._digest, self._is_quick = settings, registry, digest, is_quick
        self._plans: OrderedDict[str, Planned] = OrderedDict()
        self._kept = 0
        """Steps of the plans that are kept."""

    async def check(self, source: Source, values: Mapping[str, Any] | None, targets: Sequence[str] | None) -> Graph:
        """Raises DocumentError, GraphError with every problem."""
        if _is_large(source):
            return (await asyncio.to_thread(collector.paused, self._check, source, values, targets))[1]
        return self._check(source, values, targets)[1]

    def stamp(self, file: str) -> str:
        """What identifies the content of a file: a digest, or for weights, which are large, size and time of change.

        A name with `*` stands for all files of the models folder that it matches.
        """
        if not file.startswith(MODELS):
            return self._digest(file)
        name = file.removeprefix(MODELS)
        if "*" in name:
            found = sorted(glob(name, root_dir=self.settings.models_path))
            return digest([(path, self._facts(path)) for path in found]) if found else ""
        return self._facts(name)

    def stamp_at_once(self, file: str) -> str:
        """As `stamp`, on the loop. Raises Unread for a large file that was not read yet."""
        if not file.startswith(MODELS) and not self._is_quick(file):
            raise Unread(file)
        return self.stamp(file)

    def _facts(self, name: str) -> str:
        try:
            facts = (self.settings.models_path / name).stat()
        except OSError:
            return ""
        return f"{facts.st_size}-{facts.st_mtime_ns}"

    async def within(
        self, source: Source, pins: Mapping[str, str], breakpoints: Iterable[str]
    ) -> tuple[dict[str, str], frozenset[str]]:
        """Pins and breakpoints of instances of subgraphs, as those of the nodes in them.

        An instance is pinned by the nodes that its outputs come from, and is paused before those that read nothing in it.
        Raises DocumentError, GraphError.
        """
        pins, stops = dict(pins), set(breakpoints)
        if (pins or stops) and _has_subgraphs(source):
            flat = await asyncio.to_thread(lambda: expand(self._parse(source)))
            for name in [name for name in pins if name in flat.scopes]:
                run = pins.pop(name)
                pins |= dict.fromkeys(flat.feeds(name), run)
            for name in [name for name in stops if name in flat.scopes]:
                stops.remove(name)
                stops |= set(flat.entries(name))
        return pins, frozenset(stops)

    async def plan(
        self,
        source: Source,
        values: Mapping[str, Any] | None,
        targets: Sequence[str] | None,
        pins: Mapping[str, str] | None = None,
    ) -> tuple[Planned, str]:
        """The checked document with its plan, and the text to keep of it. pins: as `make_plan` takes them."""
        if _is_large(source):
            key, planned, text = await asyncio.to_thread(
                collector.paused, self._find_or_plan, source, values, targets, pins, self.stamp
            )
        else:
            try:
                key, planned, text = self._find_or_plan(source, values, targets, pins, self.stamp_at_once)
            except Unread:
                key, planned, text = await asyncio.to_thread(
                    self._find_or_plan, source, values, targets, pins, self.stamp
                )
        before = self._plans.pop(key, None)
        self._plans[key] = planned
        self._kept += len(planned.plan.steps) - (len(before.plan.steps) if before is not None else 0)
        while self._kept > PLANNED_STEPS_KEPT and len(self._plans) > 1:
            oldest = self._plans.popitem(last=False)[1]
            self._kept -= len(oldest.plan.steps)
            if len(oldest.plan.steps) > LARGE_DOCUMENT_NODES:
                parts = _parts(oldest)
                del oldest
                asyncio.get_running_loop().run_in_executor(None, _free, parts)
        return planned, text

    def _find_or_plan(
        self,
        source: Source,
        values: Mapping[str, Any] | None,
        targets: Sequence[str] | None,
        pins: Mapping[str, str] | None,
        stamp: Stamp,
    ) -> tuple[str, Planned, str]:
        """(key of the plan, the plan, the document's text)"""
        text = _text_of(source)
        wishes = _text_of({"values": dict(values or {}), "targets": list(targets or ()), "pins": dict(pins or {})})
        key = hashlib.blake2b(f"{text}\0{wishes}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        planned = self._plans.get(key)
        if planned is None or any(stamp(file) != before for file, before in planned.stamps.items()):
            planned = self._plan(source, values, targets, pins, stamp)
        return key, planned, dump_json(planned.document.raw) if values else text

    def _check(
        self, source: Source, values: Mapping[str, Any] | None, targets: Sequence[str] | None
    ) -> tuple[Document, Graph]:
        document = self._parse(source)
        if values:
            document = override(document, values)
        return document, resolve(document, self.registry, targets)

    def _parse(self, source: Source) -> Document:
        settings = self.settings
        return parse(
            source, max_bytes=settings.max_document_bytes, max_nodes=settings.max_nodes, max_depth=settings.max_depth
        )

    def _plan(
        self,
        source: Source,
        values: Mapping[str, Any] | None,
        targets: Sequence[str] | None,
        pins: Mapping[str, str] | None,
        stamp: Stamp,
    ) -> Planned:
        document, graph = self._check(source, values, targets)
        stamps: dict[str, str] = {}

        def noted(file: str) -> str:
            stamps[file] = stamp(file)
            return stamps[file]

        return Planned(document, make_plan(graph, noted, pins=pins), stamps)


def _parts(planned: Planned) -> list[Any]:
    """What a plan has very many of."""
    raw = planned.document.raw["nodes"]
    return [*planned.plan.steps, *planned.plan.readers, *planned.document.nodes.values(), *raw.values()]


def _free(parts: list[Any]) -> None:
    """Piece by piece: freed as a whole, a large plan would hold up the event loop for 10 ms."""
    while parts:
        del parts[-FREE_AT_ONCE:]


def _is_large(source: Source) -> bool:
    if isinstance(source, Mapping):
        nodes = source.get("nodes")
        if isinstance(nodes, Mapping) and len(nodes) > LARGE_DOCUMENT_NODES:
            return True
    elif len(source) > LARGE_DOCUMENT_BYTES:
        return True
    return _has_subgraphs(source)  # what a few lines of them stand for may be very much


def _has_subgraphs(source: Source) -> bool:
    """Whether it may have some: a text is not read for that."""
    if isinstance(source, Mapping):
        return "subgraphs" in source
    return '"subgraphs"' in source if isinstance(source, str) else b'"subgraphs"' in source


def _text_of(source: Source) -> str:
    """Raises RequestError for what is no JSON."""
    try:
        if isinstance(source, Mapping):
            return dump_json(source)
        return source if isinstance(source, str) else source.decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"this is no JSON: {error}.", remedy="Use JSON values only.") from None
