"""The HTTP API, one file per thing. `TABLE` is every route; the OpenAPI document is made from it."""

from __future__ import annotations

from web.routes import (
    artifacts,
    documents,
    embedded,
    events,
    files,
    history,
    home,
    kinds,
    metrics,
    models,
    nodes,
    openapi,
    parcels,
    plan,
    queue,
    runs,
    socket,
    sweeps,
    system,
)
from web.routes.route import Route

TABLE: tuple[Route, ...] = (
    *runs.TABLE,
    *events.TABLE,
    *plan.TABLE,
    *sweeps.TABLE,
    *queue.TABLE,
    *history.TABLE,
    *artifacts.TABLE,
    *nodes.TABLE,
    *kinds.TABLE,
    *documents.TABLE,
    *files.TABLE,
    *embedded.TABLE,
    *parcels.TABLE,
    *models.TABLE,
    *system.TABLE,
    *metrics.TABLE,
    *socket.TABLE,
    *openapi.TABLE,
    *home.TABLE,
)
