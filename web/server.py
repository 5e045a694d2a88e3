"""The server: an aiohttp application around one engine, from the open port to the clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from graph_engine.errors import AnyloomError
from web.auth import Gate, add_headers, is_loopback
from web.errors import errors
from web.library import Library
from web.limits import Limits
from web.routes import TABLE
from web.samples import put_samples
from web.state import HOUSE, House

if TYPE_CHECKING:
    from graph_engine.engine import Engine
    from graph_engine.settings import Settings

SHUTDOWN_S = 3.0
SWITCH_S = 0.001
"""A thread that computes gives way to the event loop after this long; Python's own 5 ms are long for an answer."""


def build(house: House) -> web.Application:
    """The application, not yet listening."""
    app = web.Application(middlewares=[errors, house.gate.middleware], client_max_size=house.limits.body_bytes)
    app[HOUSE] = house
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_say_goodbye)
    app.cleanup_ctx.append(_feel_pulse)
    for route in TABLE:
        route.add_to(app.router)
    return app


async def _say_goodbye(app: web.Application) -> None:
    house = app[HOUSE]
    house.stopping = True
    if house.sockets:
        await asyncio.gather(*(socket.close() for socket in list(house.sockets)))


async def _feel_pulse(app: web.Application) -> AsyncIterator[None]:
    app[HOUSE].pulse.start()
    yield
    app[HOUSE].pulse.stop()


class Server:
    """One listening server. `async with Server(engine, ...) as server: ...`, or start and stop."""

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = 8188,
        token: str = "",
        allow_hosts: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.gate = Gate(host, token, allow_hosts)
        self.house = House(engine, Library.of(engine.settings), self.gate, limits or Limits())
        self._runner = web.AppRunner(
            build(self.house), access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=75
        )

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises AnyloomError when the port or the address cannot be had."""
        registry = self.house.engine.registry
        await asyncio.to_thread(
            lambda: [type.to_dict() for type in registry]
        )  # reads their docstrings, for the first list
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self.host, self.port, backlog=1024)
            await site.start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise _no_port(self.host, self.port, error) from None
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


def _no_port(host: str, port: int, error: BaseException) -> AnyloomError:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        message, remedy = f"port {port} is taken.", "Stop the program that has it, or choose another: --port 8189."
    elif number == errno.EACCES:
        message, remedy = f"port {port} may not be opened by this user.", "Choose one above 1023."
    elif isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
        message, remedy = f"{host!r} is no address of this machine.", "Use 127.0.0.1, 0.0.0.0 or one of its addresses."
    else:
        message, remedy = f"cannot listen on {host}:{port}: {error}.", "Choose another address."
    return AnyloomError(message, remedy=remedy, code="cannot_listen")


async def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8188,
    token: str = "",
    allow_hosts: Iterable[str] = (),
    limits: Limits | None = None,
) -> None:
    """Open an engine, serve it, and end cleanly on SIGINT or SIGTERM. Runs that did not end go on at the next start."""
    from graph_engine.engine import Engine

    sys.setswitchinterval(SWITCH_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    engine = await Engine.open(settings)
    try:
        await asyncio.to_thread(put_samples, engine.folders)
        async with Server(engine, host=host, port=port, token=token, allow_hosts=allow_hosts, limits=limits) as server:
            _announce(server, engine)
            await stop.wait()
            print("stopping ...", flush=True)
    finally:
        await engine.close()


def _announce(server: Server, engine: Engine) -> None:
    for pack, reason in engine.registry.failures.items():
        print(f"node pack {pack!r} is not available: {reason}", flush=True)
    address = f"{server.url}/"
    if server.gate.token:
        address += f"?token={server.gate.token}"
    print(f"Anyloom is ready at {address}  ({len(engine.registry)} node types)", flush=True)
    if not is_loopback(server.host):
        print("Other machines reach it too; whoever has the token may run workflows and read their files.", flush=True)
