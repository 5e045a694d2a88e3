"""What the handlers of one server share, under typed keys of the aiohttp application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from web.auth import Gate
from web.library import Library
from web.limits import Limits
from web.playable import Playable
from web.pulse import Pulse
from web.system_feed import SystemFeed
from web.thumbnails import Thumbnails

if TYPE_CHECKING:
    from graph_engine.engine import Engine
    from web.ws import Socket


@dataclass
class House:
    """The engine and what stands around it."""

    engine: Engine
    library: Library
    gate: Gate
    limits: Limits = field(default_factory=Limits)
    sockets: set[Socket] = field(default_factory=set)
    stopping: bool = False
    started: float = field(default_factory=time.monotonic)
    pulse: Pulse = field(default_factory=Pulse)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    feed: SystemFeed = field(init=False)
    playable: Playable = field(init=False)

    def __post_init__(self) -> None:
        self.feed = SystemFeed(self.engine.activity)
        self.playable = Playable(self.engine.folders.roots["temp"] / ".playable")


HOUSE: web.AppKey[House] = web.AppKey("house", House)


def house(request: web.Request) -> House:
    return request.app[HOUSE]
