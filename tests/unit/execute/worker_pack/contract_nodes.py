"""Nodes for the contract of executors. A pack like any other, because processes of devices load their node types anew;
what these nodes tell their test, they tell by files."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from graph_engine import Grow, Need, Needs, NodeContext, Skip, node


def gate(place: str) -> int:
    """Says that it is in and stays until it is let out."""
    (Path(place) / "inside").touch()
    until = time.monotonic() + 20
    while not (Path(place) / "out").exists() and time.monotonic() < until:
        time.sleep(0.002)
    return 1


def crowd(number: int, place: str, seconds: float = 0.01) -> int:
    """Leaves a line when it comes and one when it goes."""
    _line(place, f"in {number}")
    time.sleep(seconds)
    _line(place, f"out {number}")
    return number


def _line(place: str, text: str) -> None:
    file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def plain(a: int) -> int:
    return a


def quick(a: int) -> int:
    time.sleep(0.001)
    return a


async def in_a_task(a: int) -> int:
    await asyncio.sleep(0)
    return a


async def for_ever() -> int:
    await asyncio.sleep(1_000)
    return 1


async def deaf(seconds: float) -> int:
    """Does not end when it is asked to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            continue
    return 7


async def awaits_what_is_cancelled() -> int:
    other = asyncio.create_task(asyncio.sleep(1_000))
    asyncio.get_running_loop().call_soon(other.cancel)
    await other
    return 1


def patient(context: NodeContext) -> int:
    while True:
        context.check()
        time.sleep(0.002)


def scratching(context: NodeContext) -> str:
    (context.scratch() / "file").write_text("x")
    return str(context.scratch())


def fails() -> int:
    raise ValueError("no")


def exits() -> int:
    raise SystemExit(1)


def needs_more() -> int:
    return Need.of("a")  # type: ignore[return-value]


def grows() -> int:
    return Grow()  # type: ignore[return-value]


def skips() -> int:
    return Skip("nothing")  # type: ignore[return-value]


def dies(how: str, words: str = "") -> int:
    """The end of the process that it is in."""
    print(words, file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(20)
    return 1


def dies_until(times: int, place: str) -> int:
    """Ends its process the first times it is called; then says how often it was."""
    _line(place, "called")
    calls = len(Path(place).read_text().splitlines())
    if calls <= times:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(20)
    return calls


def pid() -> int:
    return os.getpid()


def typed(function, **options):  # type: ignore[no-untyped-def]
    return node(id=f"w.{function.__name__.strip('_')}", **options)(function).node_type


for _function in (
    gate, crowd, plain, quick, patient, scratching, fails, exits, needs_more, grows, skips, dies, dies_until, pid,
):  # fmt: skip
    typed(_function, needs=Needs(device=True))
del _function
