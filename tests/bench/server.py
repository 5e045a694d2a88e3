"""A real server in a process of its own, and a client that counts every byte."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgpack

PACK = Path(__file__).parent / "pack"


class Served:
    """`async with Served(folder) as server:`; `ready_s` is the time from the start of the process to the first answer."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.flags = folder, flags
        self.ready_s = 0.0
        self.url = ""
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Served:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        began = time.perf_counter()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "serve", "--port", str(port), "--data", str(self.folder),
            "--custom-nodes", str(PACK), *self.flags,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{self.url}/api/v1/system") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientConnectionError:
                    if self._process.returncode is not None:
                        raise RuntimeError("the server did not start") from None
                await asyncio.sleep(0.01)
        self.ready_s = time.perf_counter() - began
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.terminate()
        await asyncio.wait_for(self._process.wait(), 20)

    @property
    def rss_mb(self) -> float:
        """Resident memory of the server process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def peak_mb(self) -> float:
        """The most memory that the server process ever had resident."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6


class Wire:
    """One msgpack websocket. Events are decoded as any client must, and counted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received = self.events = 0

    async def __aenter__(self) -> Wire:
        self._session = aiohttp.ClientSession()
        self._ws = await self._session.ws_connect(
            f"{self.url}/api/v1/ws", protocols=["anyloom.msgpack"], max_msg_size=1 << 28
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._ws.close()
        await self._session.close()

    async def send(self, message: dict[str, Any]) -> None:
        await self._ws.send_bytes(msgpack.packb(message))

    async def receive(self) -> dict[str, Any]:
        data = (await self._ws.receive()).data
        self.received += len(data)
        message: dict[str, Any] = msgpack.unpackb(data)
        if message.get("ok") is False or message.get("op") == "error":
            raise RuntimeError(str(message["error"])[:2000])
        return message

    async def run(self, document: dict[str, Any]) -> tuple[float, str]:
        """Submit and receive everything to the end; (seconds from the first byte sent, status)."""
        packed = msgpack.packb({"op": "submit", "id": 1, "document": document, "watch": True})
        began = time.perf_counter()
        await self._ws.send_bytes(packed)
        while True:
            message = await self.receive()
            if message.get("op") == "events":
                self.events += len(message["events"])
                last = message["events"][-1]
                if last["type"] == "finished":
                    return time.perf_counter() - began, last["status"]
