"""Errors as clients see them: one JSON shape, the right status, and never a traceback.

{"error": {"code", "message", "remedy", "node"?, "port"?, "place"?, "problems"?: [...]}}
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from graph_engine.errors import (
    AnyloomError,
    Cancelled,
    InvalidError,
    KindError,
    ModelError,
    NodeError,
    NotFoundError,
    PathError,
    RequestError,
)
from web.frames import JSON

log = logging.getLogger("anyloom.web")

STATUS_OF_CODE = {
    "bad_json": 400,
    "not_finite": 400,
    "unauthorized": 401,
    "foreign_host": 403,
    "foreign_origin": 403,
    "read_only": 403,
    "no_such_method": 405,
    "held": 409,
    "changed": 412,
    "document_too_large": 413,
    "too_large": 413,
    "unsupported_media_type": 415,
    "bad_range": 416,
    "too_many": 429,
    "busy": 503,
    "stopping": 503,
}
STATUS_OF_TYPE: tuple[tuple[type[AnyloomError], int], ...] = (
    (InvalidError, 422),
    (KindError, 422),
    (ModelError, 422),
    (NodeError, 422),
    (NotFoundError, 404),
    (PathError, 403),
    (RequestError, 400),
    (Cancelled, 409),
)
CODE_OF_STATUS = {404: "not_found", 405: "no_such_method", 413: "too_large", 416: "bad_range"}


def tell(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status and the entry for a failure of any sort; what nobody foresaw is logged under an id and not shown."""
    if isinstance(error, AnyloomError):
        entry = error.to_dict()
        status = STATUS_OF_CODE.get(entry["code"])
        return status or next((number for kind, number in STATUS_OF_TYPE if isinstance(error, kind)), 500), entry
    if isinstance(error, web.HTTPException):
        return error.status, {
            "code": CODE_OF_STATUS.get(error.status, "http_error"),
            "message": f"{error.reason}.",
            "remedy": "GET /api/v1/openapi.json lists what this server offers.",
        }
    id = secrets.token_hex(4)
    log.error("failure %s", id, exc_info=error)
    return 500, {
        "code": "internal",
        "message": f"the server made a mistake (id {id}).",
        "remedy": "The server's log has the details under this id; please report them.",
    }


def answer(error: BaseException) -> web.Response:
    """The response for a failure."""
    status, entry = tell(error)
    headers = {"WWW-Authenticate": 'Bearer realm="Anyloom"'} if status == 401 else {}
    if isinstance(error, web.HTTPException) and "Allow" in error.headers:
        headers["Allow"] = error.headers["Allow"]
    body = JSON.encode({"error": entry})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: whatever is raised becomes an answer."""
    try:
        return await handler(request)
    except asyncio.CancelledError:
        raise
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return answer(error)
    except ConnectionResetError:
        raise  # the client went away; there is nobody to answer
    except Exception as error:
        return answer(error)
