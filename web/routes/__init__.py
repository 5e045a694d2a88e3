"""The HTTP API, one file per thing. `TABLE` is every route; the OpenAPI document is made from it."""

from __future__ import annotations

from web.routes import artifacts, documents, embedded, events, files, home, models, nodes, openapi, runs, socket, system
from web.routes.route import Route

TABLE: tuple[Route, ...] = (
    *runs.TABLE,
    *events.TABLE,
    *artifacts.TABLE,
    *nodes.TABLE,
    *documents.TABLE,
    *files.TABLE,
    *embedded.TABLE,
    *models.TABLE,
    *system.TABLE,
    *socket.TABLE,
    *openapi.TABLE,
    *home.TABLE,
)
