"""Jobs and reports as plain data, for the way to another process and back. Nothing is pickled: what cannot be said in plain
data is refused with its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine import errors
from graph_engine.errors import AnyloomError, InvalidError, Problem, RequestError
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, Outputs, Raised, Report, Work
from graph_engine.graph.outcome import Grow, Need, NodeLink, OwnInput
from graph_engine.graph.registry import Registry
from graph_engine.schedule.messages import Job

# --- jobs -------------------------------------------------------------------------------------------------------------


def work_form(work: Work) -> dict[str, Any]:
    """What the other process has to know. Node types are named; it has them itself."""
    job = work.job
    form: dict[str, Any] = {
        "id": job.id,
        "key": job.key,
        "run": job.run,
        "node": job.node,
        "type": [job.type.id, job.type.version],
        "literals": dict(job.literals),
        "device": job.device,
        "attempt": job.attempt,
        "next_use": dict(job.next_use),
        "lazy": list(job.lazy),
        "checks": list(job.checks),
        "asked": sorted(job.asked),
        "local": job.local,
        "inputs": dict(work.inputs),
    }
    if isinstance(work.context, JobContext):
        form["context"] = work.context.form()
    return form


def job_from(form: Mapping[str, Any], registry: Registry) -> Job:
    """Raises NotFoundError for a type that is not here, RequestError for one of another version."""
    id, version = form["type"]
    type = registry[id]
    if type.version != version:
        raise RequestError(
            f"the server has {id} in version {version}, its process for {form['device']} in version {type.version}.",
            remedy="Its files were changed while the server ran: start it again.",
            code="other_version",
        )
    return Job(
        form["id"],
        form["key"],
        form["run"],
        form["node"],
        type,
        form["literals"],
        {},
        form["device"],
        form["attempt"],
        form["next_use"],
        tuple(form["lazy"]),
        tuple(form["checks"]),
        frozenset(form["asked"]),
        form["local"],
    )


# --- reports ----------------------------------------------------------------------------------------------------------


def report_form(report: Report) -> list[Any]:
    if isinstance(report, Outputs):
        return ["outputs", list(report.values), report.seconds]
    if isinstance(report, Need):
        return ["need", list(report.ports)]
    if isinstance(report, Grow):
        nodes = [
            [node.id, node.type, node.values, {port: _place_form(link) for port, link in node.links.items()}]
            for node in report.nodes.values()
        ]
        return ["grow", nodes, {port: _part_form(part) for port, part in report.outputs.items()}]
    if isinstance(report, Raised):
        return ["raised", error_form(report.error)]
    return ["interrupted"]


def report_from(form: list[Any]) -> Report:
    kind, *rest = form
    if kind == "outputs":
        return Outputs(tuple(rest[0]), rest[1])
    if kind == "need":
        return Need(tuple(rest[0]))
    if kind == "grow":
        grow = Grow(outputs={port: _part_from(part) for port, part in rest[1].items()})
        for id, type, values, links in rest[0]:
            grow.add(type, id, **values, **{port: _place_from(link) for port, link in links.items()})
        return grow
    if kind == "raised":
        return Raised(error_from(rest[0]))
    return Interrupted()


def _place_form(place: NodeLink | OwnInput) -> list[str]:
    return list(place)


def _place_from(form: list[str]) -> NodeLink | OwnInput:
    return NodeLink(*form) if len(form) == 2 else OwnInput(*form)


def _part_form(part: Any) -> list[Any]:
    """An output of a growing graph: a link, an own input, a list of these, or a plain value."""
    if isinstance(part, NodeLink | OwnInput):
        return ["place", _place_form(part)]
    if isinstance(part, list) and any(isinstance(one, NodeLink | OwnInput) for one in part):
        return ["list", [_part_form(one) for one in part]]
    return ["value", part]


def _part_from(form: list[Any]) -> Any:
    kind, content = form
    if kind == "place":
        return _place_from(content)
    return [_part_from(one) for one in content] if kind == "list" else content


# --- errors -----------------------------------------------------------------------------------------------------------


def error_form(error: BaseException) -> dict[str, Any]:
    found = error if isinstance(error, AnyloomError) else AnyloomError(f"{type(error).__name__}: {error}")
    problems = [list(problem) for problem in found.problems] if isinstance(found, InvalidError) else []
    return {
        "class": type(found).__name__,
        "problem": list(found.problem),
        "problems": problems,
        "cause": repr(found.__cause__) if found.__cause__ is not None else "",
    }


def error_from(form: Mapping[str, Any]) -> AnyloomError:
    """Of the same class, where the class is one of the house's."""
    kind: Any = getattr(errors, form["class"], AnyloomError)
    problem = Problem(*form["problem"])
    found: AnyloomError = kind([Problem(*one) for one in form["problems"]] if form["problems"] else problem.message)
    found.problem = problem
    if form["cause"]:
        found.__cause__ = RuntimeError(form["cause"])
    return found
