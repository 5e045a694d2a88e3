"""Sweeps: a workflow with several values for some inputs, as one request: how much it would be, and the runs."""

from __future__ import annotations

from aiohttp import web

from web import schemas
from web.routes.route import API, Call, Parameter, Reply, Route, json_response, read_json
from web.schemas import ref
from web.state import house
from web.sweep import Sweep, Tally, submit
from web.sweep import plan as outlook


def told(sweep: Sweep, tally: Tally) -> dict[str, int]:
    return {"runs": len(sweep.cells()), **tally._asdict()}


async def plan(call: Call) -> web.StreamResponse:
    sweep = Sweep.of(await read_json(call.request))
    return json_response(told(sweep, await outlook(house(call.request), sweep)))


async def start(call: Call) -> web.StreamResponse:
    sweep = Sweep.of(await read_json(call.request))
    tally, runs = await submit(house(call.request), sweep, call.query["client"])
    cells = [{"values": cell, "run": run.to_dict()} for cell, run in zip(sweep.cells(), runs, strict=True)]
    return json_response({"tally": told(sweep, tally), "cells": cells}, 202)


CELL = schemas.record({"values": schemas.OBJECT, "run": ref("Run")})
TABLE = (
    Route(
        "POST",
        f"{API}/sweeps/plan",
        plan,
        "How many runs and steps a sweep is, and how many of these are computed once for several runs",
        "runs",
        {200: Reply("the count", ref("Tally"))},
        body=ref("Sweep"),
    ),
    Route(
        "POST",
        f"{API}/sweeps",
        start,
        "Run a workflow with every combination of the values of its axes: all of these runs, or none",
        "runs",
        {202: Reply("accepted", schemas.record({"tally": ref("Tally"), "cells": {"type": "array", "items": CELL}}))},
        (Parameter("client", "string", "who submits; `GET /runs?client=` finds its runs again", ""),),
        body=ref("Sweep"),
    ),
)
