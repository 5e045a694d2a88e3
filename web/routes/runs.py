"""Runs: submit, list, look at, wait for, cancel."""

from __future__ import annotations

from aiohttp import web

from graph_engine.record import STATUSES
from web import schemas
from web.routes.route import API, Call, Parameter, Reply, Route, json_response, long_response, read_json
from web.schemas import ref
from web.state import house
from web.submission import Submission

WAIT = Parameter("wait_s", "number", "wait this long for the end of the run, and answer with its results", 0.0, 0, 3600)
RUN = Reply("the run", ref("Run"))
ID = {"id": "the run's id"}


async def submit(call: Call) -> web.StreamResponse:
    home = house(call.request)
    submission = Submission.of(await read_json(call.request))
    run = await submission.submit(home, client=call.query["client"])
    if call.query["wait_s"]:
        run = await home.engine.wait(run.id, call.query["wait_s"])
    headers = {"Location": f"{API}/runs/{run.id}"}
    return json_response(run.to_dict(), 200 if run.ended else 202, headers)


async def listing(call: Call) -> web.StreamResponse:
    query = call.query
    runs = await house(call.request).engine.runs(
        status=query["status"], client=query["client"], limit=query["limit"], before=query["before"]
    )
    return json_response({"runs": [run.to_dict() for run in runs]})


async def one(call: Call) -> web.StreamResponse:
    engine = house(call.request).engine
    run = await engine.run(call.path("id"))
    if call.query["wait_s"] and not run.ended:
        run = await engine.wait(run.id, call.query["wait_s"])
    return json_response(run.to_dict())


async def cancel(call: Call) -> web.StreamResponse:
    return json_response({"cancelled": await house(call.request).engine.cancel(call.path("id"))})


async def document(call: Call) -> web.StreamResponse:
    return json_response(await house(call.request).engine.document(call.path("id")))


async def timeline(call: Call) -> web.StreamResponse:
    found = await house(call.request).engine.timeline(call.path("id"))
    headers = {"Content-Disposition": f'inline; filename="timeline-{found["otherData"]["number"]}.json"'}
    return await long_response(found, "traceEvents", headers)


async def explain(call: Call) -> web.StreamResponse:
    found = await house(call.request).engine.explain(call.path("id"), call.query["with"])
    return await long_response(found, "nodes")


CANCELLED = Reply("false when the run had ended already", schemas.record({"cancelled": schemas.BOOLEAN}))
TABLE = (
    Route(
        "POST",
        f"{API}/runs",
        submit,
        "Run a workflow",
        "runs",
        {200: Reply("the run has ended: its results", ref("Run")), 202: Reply("accepted and durable", ref("Run"))},
        (WAIT, Parameter("client", "string", "who submits; `GET /runs?client=` finds it again", "")),
        body=ref("Submission"),
    ),
    Route(
        "GET",
        f"{API}/runs",
        listing,
        "Runs, newest first",
        "runs",
        {200: Reply("a page of runs", schemas.listing("runs", ref("Run")))},
        (
            Parameter("status", "string", "only these", options=STATUSES),
            Parameter("client", "string", "only runs of this client"),
            Parameter("limit", "integer", "how many", 50, 1, 1000),
            Parameter("before", "integer", "only runs with a smaller number: the next page", low=0),
        ),
    ),
    Route("GET", f"{API}/runs/{{id}}", one, "One run", "runs", {200: RUN}, (WAIT,), ID),
    Route("POST", f"{API}/runs/{{id}}/cancel", cancel, "Cancel a run", "runs", {200: CANCELLED}, paths=ID),
    Route("DELETE", f"{API}/runs/{{id}}", cancel, "Cancel a run", "runs", {200: CANCELLED}, paths=ID),
    Route(
        "GET",
        f"{API}/runs/{{id}}/document",
        document,
        "The workflow that ran",
        "runs",
        {200: Reply("the workflow", ref("Document"))},
        paths=ID,
    ),
    Route(
        "GET",
        f"{API}/runs/{{id}}/timeline",
        timeline,
        "When every step waited, computed and ended, for chrome://tracing and Perfetto",
        "runs",
        {200: Reply("Chrome's trace event format", ref("Timeline"))},
        paths=ID,
    ),
    Route(
        "GET",
        f"{API}/runs/{{id}}/explain",
        explain,
        "Why each node was computed: what changed since an earlier run",
        "runs",
        {200: Reply("hit or miss per node, and why", ref("Explanation"))},
        (Parameter("with", "string", "the run to compare with; else the latest one of the same name"),),
        ID,
    ),
)
