"""`anyloom serve`: the server."""

from __future__ import annotations

import argparse
import logging

from web.commands.flags import settings_of


async def serve(arguments: argparse.Namespace) -> int:
    from web.server import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    await serve(
        settings_of(arguments),
        host=arguments.host,
        port=arguments.port,
        token=arguments.token or "",
        allow_hosts=arguments.allow_host,
    )
    return 0
