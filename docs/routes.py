"""The routes of the HTTP API, for docs/api.md: `python -m docs.routes [--check]`."""

from __future__ import annotations

import re
import sys

from docs.markers import ROOT, run
from web.routes import TABLE

API = ROOT / "docs" / "api.md"


def routes() -> str:
    """One row per route."""
    rows = []
    for route in TABLE:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        query = ", ".join(f"`{parameter.name}`" for parameter in route.parameters)
        statuses = ", ".join(str(status) for status in route.replies)
        rows.append(f"| {route.method} | `{path}` | {query} | {route.summary} | {statuses} |")
    return "\n".join(["| method | path | query | what it does | answers |", "|---|---|---|---|---|", *rows])


SECTIONS = {"routes": routes}

if __name__ == "__main__":
    sys.exit(run(API, SECTIONS, __doc__))
