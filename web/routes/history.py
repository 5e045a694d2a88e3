"""The history: runs that have ended, with the media that they made, and forgetting them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from graph_engine.record import ENDED, RunRecord
from web.routes.route import API, Call, Parameter, Reply, Route, json_response
from web.schemas import INTEGER, record, ref
from web.state import House, house

MEDIA_SHOWN = 12


async def entries(home: House, status: str | None, client: str | None, limit: int, before: int | None) -> Any:
    """As both doors list them."""
    runs = await home.engine.runs(status=status, client=client, limit=limit, before=before)
    return {
        "history": [entry(run) for run in runs if run.ended],
        "next": runs[-1].number if len(runs) == limit else None,
    }


def entry(run: RunRecord) -> dict[str, Any]:
    """A run without its results: what a panel shows of it."""
    media = list(_media(run))
    return {
        "id": run.id,
        "number": run.number,
        "name": run.name,
        "client": run.client,
        "status": run.status,
        "created": run.created,
        "started": run.started,
        "finished": run.finished,
        "nodes": run.nodes,
        "errors": len(run.errors),
        "media": media[:MEDIA_SHOWN],
        "more_media": max(0, len(media) - MEDIA_SHOWN),
    }


def _media(run: RunRecord) -> Iterator[dict[str, Any]]:
    """Every file that a target wrote, in the order of the results."""
    for node, outputs in run.result.items():
        for value in outputs.values():
            for one in value if isinstance(value, list) else [value]:
                file = one.get("file") if isinstance(one, dict) else None
                if isinstance(file, dict):
                    yield {
                        "node": node,
                        **{name: file[name] for name in ("folder", "name", "media_type") if name in file},
                    }


async def history(call: Call) -> web.StreamResponse:
    query = call.query
    home = house(call.request)
    return json_response(await entries(home, query["status"], query["client"], query["limit"], query["before"]))


async def forget(call: Call) -> web.StreamResponse:
    engine = house(call.request).engine
    run = await engine.run(call.path("id"))
    return json_response({"deleted": await engine.delete([run.id])})


async def clear(call: Call) -> web.StreamResponse:
    return json_response({"deleted": await house(call.request).engine.clear_history(call.query["status"])})


STATUS = Parameter("status", "string", "only these", options=tuple(sorted(ENDED)))
DELETED = Reply("how many runs were forgotten; those that go on are not", record({"deleted": INTEGER}))
TABLE = (
    Route(
        "GET",
        f"{API}/history",
        history,
        "Runs that have ended, newest first, with the media that they made",
        "history",
        {
            200: Reply(
                "a page; `next` is the `before` of the next one",
                record({"history": {"type": "array", "items": ref("Past")}, "next": {"type": ["integer", "null"]}}),
            )
        },
        (
            STATUS,
            Parameter("client", "string", "only runs of this client"),
            Parameter("limit", "integer", "how many", 50, 1, 1000),
            Parameter("before", "integer", "only runs with a smaller number: the next page", low=0),
        ),
    ),
    Route("DELETE", f"{API}/history", clear, "Forget all runs that have ended", "history", {200: DELETED}, (STATUS,)),
    Route(
        "DELETE",
        f"{API}/history/{{id}}",
        forget,
        "Forget a run that has ended; what it wrote to output stays",
        "history",
        {200: DELETED},
        paths={"id": "the run's id"},
    ),
)
