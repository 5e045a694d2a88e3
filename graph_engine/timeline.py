"""The timeline of a run: what its events, its plan and the telemetry of memory say, put on rows of time. Pure.

When a step began is told by its end and by how long it computed; what lies between that and the moment its inputs were there
is waiting, and for what can be told too: for a place in its lane (until the scheduler started it), for memory (noted by the
engine), or for a thread. Nothing is measured for it, so it costs a run nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from graph_engine.execute.events import Event
from graph_engine.graph.plan import Plan
from graph_engine.telemetry import Span

SHORT_S = 0.001
"""Shorter waits are not shown; overlaps up to this are inaccuracies of the clocks, not work done side by side."""
MAX_SLICES = 50_000
"""The longest ones are kept."""
PAUSED = "\0paused"
"""After a node's id: when its breakpoint was left."""
ROWS = 32
"""Per group; beyond these, slices share the last row."""
ENDS = {"done": "done", "failed": "failed", "cancelled": "cancelled", "retrying": "failed", "blocked": "blocked"}


class Facts(NamedTuple):
    """Of a node: its type, lane, and the nodes that it reads."""

    type: str
    lane: str
    sources: tuple[str, ...]


class Slice(NamedTuple):
    """A stretch of time on a row. Times are seconds since the run was accepted."""

    group: str
    row: str
    name: str
    begin_s: float
    end_s: float
    facts: Mapping[str, Any]


class Mark(NamedTuple):
    group: str
    row: str
    name: str
    at_s: float
    facts: Mapping[str, Any]


class Timeline(NamedTuple):
    slices: tuple[Slice, ...]
    marks: tuple[Mark, ...]
    left_out: int


class _Step(NamedTuple):
    node: str
    started_s: float
    begin_s: float
    end_s: float
    outcome: str
    data: Mapping[str, Any]


def facts_of(plan: Plan) -> dict[str, Facts]:
    names = [step.node for step in plan.steps]
    return {
        step.node: Facts(
            step.type.id,
            step.type.lane,
            tuple(dict.fromkeys(names[link.source] for link in step.links if link.source >= 0)),
        )
        for step in plan.steps
    }


def timeline(
    events: Sequence[Event], times: Sequence[float], facts: Mapping[str, Facts], spans: Iterable[Span], now_s: float
) -> Timeline:
    """events, times: the log of the run and when each happened; spans: of this run and of models; now_s: the same clock.

    Of a run that goes on, what has begun lasts until now.
    """
    zero = times[0] if times else now_s
    last = times[-1] if events and events[-1].type == "finished" else now_s
    steps, ends, marks = _steps(events, times, now_s)
    waits = {}
    weights: dict[str, list[Span]] = {}
    memory: list[Span] = []
    for span in spans:
        if span.what == "memory":
            waits[span.node] = span
        elif span.what == "weights":
            weights.setdefault(span.node, []).append(span)
        elif span.end_s >= zero and span.begin_s <= last:
            memory.append(span)
    slices = [Slice("run", "run", "run", zero, last, {"steps": len(steps)})]
    slices += _work(steps, facts, weights, _critical(steps, facts, ends))
    slices += _waiting(steps, facts, waits, ends, zero)
    slices += _rows("waiting", "", _pauses(events, times, now_s))
    slices += _rows("memory", "copies", (
        (span.begin_s, span.end_s, span.device, f"{span.what} {span.model}", {"bytes": span.bytes, "device": span.device})
        for span in memory if span.what != "evict"
    ))  # fmt: skip
    marks += [
        Mark("memory", f"evictions {span.device}", f"evict {span.model}", span.begin_s, {"bytes": span.bytes})
        for span in memory
        if span.what == "evict"
    ]
    left_out = max(0, len(slices) - MAX_SLICES)
    if left_out:
        slices = sorted(slices, key=lambda slice: slice.begin_s - slice.end_s)[:MAX_SLICES]
    moved = [slice._replace(begin_s=slice.begin_s - zero, end_s=slice.end_s - zero) for slice in slices]
    ordered = sorted(moved, key=lambda slice: (slice.begin_s, -slice.end_s))
    return Timeline(tuple(ordered), tuple(mark._replace(at_s=mark.at_s - zero) for mark in marks), left_out)


def _steps(
    events: Sequence[Event], times: Sequence[float], now_s: float
) -> tuple[list[_Step], dict[str, float], list[Mark]]:
    """Every attempt of every step, when each node was over, and what happened at a moment."""
    open_: dict[str, tuple[float, Mapping[str, Any]]] = {}
    parts: dict[str, float] = {}
    """Node that was mapped or grew -> when the first of its parts began."""
    steps: list[_Step] = []
    ends: dict[str, float] = {}
    marks: list[Mark] = []
    for event, at in zip(events, times, strict=False):
        node, data = event.node, event.data
        if event.type == "running":
            open_[node] = (at, data)
            whole = _whole(node)
            if whole:
                parts.setdefault(whole, at)
        elif event.type == "continued":
            ends[f"{node}{PAUSED}"] = at
        elif event.type == "cached":
            marks.append(Mark("run", "run", f"{len(data['nodes'])} from the cache", at, {"nodes": len(data["nodes"])}))
        elif event.type in ENDS or event.type == "skipped":
            if event.type != "retrying":
                ends[node] = at
            found = open_.pop(node, None)
            if found is not None:
                started, began = found
                computed = data.get("ms", 0.0) / 1000
                begin = at - computed if event.type == "done" else started
                steps.append(_Step(node, started, begin, at, ENDS.get(event.type, event.type), {**began, **data}))
            elif event.type == "done" and node in parts:
                steps.append(_Step(node, parts[node], parts[node], at, "done", {"parts": True}))
    steps += [_Step(node, at, at, now_s, "running", data) for node, (at, data) in open_.items()]
    return steps, ends, marks


def _whole(node: str) -> str:
    """The step that a part belongs to: `map#3` and `loop/add` are parts of `map` and `loop`."""
    cut = max(node.rfind("#"), node.rfind("/"))
    return node[:cut] if cut > 0 else ""


def _work(
    steps: list[_Step], facts: Mapping[str, Facts], weights: Mapping[str, list[Span]], critical: set[str]
) -> list[Slice]:
    entries: dict[str, list[tuple[float, float, str, str, dict[str, Any]]]] = {}
    for step in steps:
        known = facts.get(step.node.partition("#")[0])
        lane = step.data.get("device") or (known.lane if known is not None else "pool")
        if step.data.get("parts"):
            lane = "parts"
        elif step.data.get("shared"):
            lane = "other runs"
        told: dict[str, Any] = {"outcome": step.outcome}
        if known is not None:
            told["type"] = known.type
        for name in ("device", "attempt", "ms"):
            if name in step.data:
                told[name] = step.data[name]
        if step.node in critical:
            told["critical"] = True
        entries.setdefault(lane, []).append((step.begin_s, step.end_s, lane, step.node, told))
    slices: list[Slice] = []
    for lane in sorted(entries):
        slices += _rows("steps", "", entries[lane], one=":" in lane or lane in ("cpu", "inline"))
    at = {slice.name: slice for slice in slices}
    slices += [
        Slice("steps", at[node].row, f"wait for {span.model}", span.begin_s, span.end_s, {"what": "weights"})
        for node, found in weights.items()
        for span in found
        if node in at
    ]
    return slices


def _waiting(
    steps: list[_Step], facts: Mapping[str, Facts], waits: Mapping[str, Span], ends: Mapping[str, float], zero: float
) -> list[Slice]:
    entries: list[tuple[float, float, str, str, dict[str, Any]]] = []
    for step in steps:
        if step.data.get("parts"):
            continue
        known = facts.get(step.node.partition("#")[0])
        ready = max((ends.get(source, zero) for source in known.sources), default=zero) if known else step.started_s
        ready = max(ready, ends.get(f"{step.node.partition('#')[0]}{PAUSED}", ready))
        held = waits.get(step.node)
        memory = (held.begin_s, held.end_s) if held is not None and held.end_s <= step.begin_s + SHORT_S else None
        stretches = [("lane", ready, step.started_s)]
        if memory is not None:
            stretches += [("memory", *memory), ("thread", memory[1], step.begin_s)]
        else:
            stretches.append(("thread", step.started_s, step.begin_s))
        entries += [
            (begin, end, "waiting", f"{step.node}: {what}", {"node": step.node, "what": what})
            for what, begin, end in stretches
            if end - begin >= SHORT_S
        ]
    return _rows("waiting", "", entries)


def _pauses(
    events: Sequence[Event], times: Sequence[float], now_s: float
) -> list[tuple[float, float, str, str, dict[str, Any]]]:
    """At breakpoints, until somebody let the run go on; of a run that ended there, until its end."""
    paused: dict[str, float] = {}
    found = []
    for event, at in zip(events, times, strict=False):
        if event.type == "paused":
            paused[event.node] = at
        elif event.type in ("continued", "cancelled") and event.node in paused:
            found.append((event.node, paused.pop(event.node), at))
    found += [(node, at, now_s) for node, at in paused.items()]
    return [
        (begin, end, "paused", f"{node}: breakpoint", {"node": node, "what": "breakpoint"})
        for node, begin, end in found
    ]


def _critical(steps: list[_Step], facts: Mapping[str, Facts], ends: Mapping[str, float]) -> set[str]:
    """The chain that decided when the run was over: from the last step back, each time to the input that came last."""
    if not steps:
        return set()
    node = max(steps, key=lambda step: step.end_s).node.partition("#")[0]
    path = {node}
    while node in facts and (sources := [source for source in facts[node].sources if source in ends]):
        node = max(sources, key=lambda source: ends[source])
        path.add(node)
    return path


def _rows(
    group: str, prefix: str, entries: Iterable[tuple[float, float, str, str, dict[str, Any]]], *, one: bool = False
) -> list[Slice]:
    """(begin, end, kind of row, name, facts) on as few rows as they need. one: they follow each other by nature."""
    free: dict[str, list[tuple[float, int]]] = {}
    rows: dict[str, int] = {}
    slices: list[Slice] = []
    for begin, end, kind, name, facts in sorted(entries, key=lambda entry: entry[:2]):
        heap = free.setdefault(kind, [])
        if heap and (one or heap[0][0] <= begin + SHORT_S or rows[kind] >= ROWS):
            until, row = heapq.heappop(heap)
            begin = max(begin, until)
        else:
            row = rows[kind] = rows.get(kind, 0) + 1
        end = max(begin, end)
        heapq.heappush(heap, (end, row))
        label = f"{prefix} {kind}".strip() if one else f"{prefix} {kind} {row}".strip()
        slices.append(Slice(group, label, name, begin, end, facts))
    return slices


# --- as the viewers of browsers read it ---------------------------------------------------------------------------


def chrome_trace(found: Timeline, run: Mapping[str, Any]) -> dict[str, Any]:
    """Chrome's trace event format, which chrome://tracing, Perfetto and speedscope open. Times in microseconds."""
    groups = {name: number for number, name in enumerate(("run", "steps", "waiting", "memory"), 1)}
    rows: dict[tuple[str, str], int] = {}
    events: list[dict[str, Any]] = []

    def row(group: str, name: str) -> int:
        number = rows.get((group, name))
        if number is None:
            number = rows[group, name] = len(rows) + 1
        return number

    for slice in found.slices:
        events.append({
            "name": slice.name if slice.group != "run" else (run.get("name") or "run"), "cat": slice.group, "ph": "X",
            "ts": round(slice.begin_s * 1e6, 1), "dur": round((slice.end_s - slice.begin_s) * 1e6, 1),
            "pid": groups[slice.group], "tid": row(slice.group, slice.row), "args": dict(slice.facts),
        })  # fmt: skip
    for mark in found.marks:
        events.append({
            "name": mark.name, "cat": mark.group, "ph": "i", "s": "t", "ts": round(mark.at_s * 1e6, 1),
            "pid": groups[mark.group], "tid": row(mark.group, mark.row), "args": dict(mark.facts),
        })  # fmt: skip
    names: list[dict[str, Any]] = []
    for name, number in groups.items():
        names.append({"name": "process_name", "ph": "M", "pid": number, "tid": 0, "args": {"name": name}})
        names.append({"name": "process_sort_index", "ph": "M", "pid": number, "tid": 0, "args": {"sort_index": number}})
    for (group, name), number in rows.items():
        names.append({"name": "thread_name", "ph": "M", "pid": groups[group], "tid": number, "args": {"name": name}})
    other = {**run, "left_out": found.left_out}
    return {"traceEvents": names + events, "displayTimeUnit": "ms", "otherData": other}
