"""Before a run: does it fit, what moves, how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from graph_engine.errors import RequestError
from web.routes.route import API, Call, Reply, Route, json_response, read_json
from web.schemas import ref
from web.state import House, house
from web.submission import Submission

MAX_BYTES = 1 << 50


async def answer(home: House, message: Mapping[str, Any]) -> dict[str, Any]:
    """For both doors. Raises RequestError that names the field, and as a submission does."""
    from web.outlook import outlook  # with all that the command line needs

    submission = Submission.of(message, "device", "budget_bytes")
    device, budget = message.get("device") or "", message.get("budget_bytes")
    known = home.engine.devices
    if device and device not in known:
        raise RequestError(
            f"{str(device)[:40]!r} is no device of this server.",
            remedy=f"Use one of {', '.join(known)}.",
            code="bad_field",
            place="/device",
        )
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or not 0 < budget <= MAX_BYTES):
        raise RequestError(
            '"budget_bytes" must be a whole number of bytes.',
            remedy="Correct it.",
            code="bad_field",
            place="/budget_bytes",
        )
    return await outlook(home, submission, device, budget)


async def plan(call: Call) -> web.StreamResponse:
    return json_response(await answer(house(call.request), await read_json(call.request)))


TABLE = (
    Route(
        "POST",
        f"{API}/plan",
        plan,
        "Before a run: what would be computed, whether its models fit, which move, and how long that takes",
        "runs",
        {200: Reply("the outlook", ref("Outlook"))},
        body=ref("Question"),
    ),
)
