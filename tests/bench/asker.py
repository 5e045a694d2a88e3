"""Asks one address again and again until it is terminated, then prints how long each answer took: a JSON list of seconds."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

import aiohttp

PAUSE_S = 0.002


async def answer(session: aiohttp.ClientSession, url: str) -> float:
    began = time.perf_counter()
    async with session.get(url) as response:
        await response.read()
        assert response.status == 200, response.status
    return time.perf_counter() - began


async def ask(url: str) -> list[float]:
    waits: list[float] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with aiohttp.ClientSession() as session:
        await answer(session, url)  # pays for the connection
        print("ready", flush=True)
        while not ended.is_set():
            waits.append(await answer(session, url))
            await asyncio.sleep(PAUSE_S)
    return waits


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
