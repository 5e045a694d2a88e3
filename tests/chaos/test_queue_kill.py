"""Law P1 for the queue: what was answered survives kill -9 at any moment, and nothing is finished twice."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from graph_engine.store.history import RunRow
from graph_engine.store.queue import RunQueue

ROOT = Path(__file__).parents[2]
KILLS = 50

CHILD = """
import asyncio, os, random, sys
from graph_engine.store.history import RunRow
from graph_engine.store.queue import RunQueue

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write: a killed child leaves no half-promised line

def payload(run):
    return run.encode() * 20

async def client(queue, name, chance):
    for index in range(10**9):
        run = f"{name}-{index}"
        number = await queue.add(RunRow(run, document=run * chance.choice([1, 2000]), client=name))
        say("ADDED", run, number)
        if chance.random() < 0.3:
            await queue.started(run)
        if chance.random() < 0.4:
            assert await queue.journal(run, "step", payload(run))
            say("JOURNALLED", run)
        if chance.random() < 0.5:
            answers = await asyncio.gather(*(queue.finish(run, status) for status in ("succeeded", "cancelled")))
            assert answers == [True, False], answers
            say("FINISHED", run)

async def main(folder, seed):
    queue, chance = RunQueue(folder), random.Random(seed)
    rows = await queue.recover()
    say("RECOVERED", len(rows))
    for row in rows:
        assert row.boots >= 1 and set(row.journal.values()) <= {payload(row.id)}, row
        assert row.document in (row.id, row.id * 2000)
        if chance.random() < 0.2 and await queue.finish(row.id, "failed"):
            say("FINISHED", row.id)
    clients = [client(queue, f"{seed}.{number}", random.Random(seed * 100 + number)) for number in range(8)]
    await asyncio.gather(*clients)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class Witness:
    """Writes down what the children promised before they were killed."""

    def __init__(self) -> None:
        self.added: dict[str, int] = {}
        self.journalled: set[str] = set()
        self.finished: list[str] = []
        self.recoveries = 0

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "ADDED":
            self.added[rest[0]] = int(rest[1])
        elif word == "JOURNALLED":
            self.journalled.add(rest[0])
        elif word == "FINISHED":
            self.finished.append(rest[0])
        elif word == "RECOVERED":
            self.recoveries += 1


def run_and_kill(folder: Path, seed: int, lifetime_s: float, witness: Witness) -> str:
    """The child lives `lifetime_s` seconds after it recovered (negative: it may die while it opens the queue)."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    recovered = threading.Event()

    def listen() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):
                witness.hear(line)
                recovered.set()

    listener = threading.Thread(target=listen)
    listener.start()
    if lifetime_s < 0:
        time.sleep(0.2 - lifetime_s)
    else:
        recovered.wait(20)
        time.sleep(lifetime_s)
    died_by_itself = child.poll() is not None
    child.kill()
    child.wait()
    listener.join()
    complaint = child.stderr.read()
    child.stdout.close()
    child.stderr.close()
    return complaint if died_by_itself else ""


@pytest.mark.law("P1")
def test_what_was_promised_survives_fifty_kills(tmp_path: Path) -> None:
    chance, witness = random.Random(20), Witness()
    for seed in range(KILLS):
        lifetime_s = -chance.uniform(0, 0.15) if seed % 5 == 4 else chance.uniform(0.0, 0.25)
        assert run_and_kill(tmp_path, seed, lifetime_s, witness) == ""

    assert witness.recoveries >= KILLS * 0.7, "most children died before they did anything"
    assert len(witness.added) > 500, "the children did no work worth killing"
    assert len(witness.finished) == len(set(witness.finished)), "a run was finished twice"

    async def look() -> None:
        queue = RunQueue(tmp_path)
        try:
            rows = {row.id: row for row in await queue.history(limit=10**9)}
            for run, number in witness.added.items():
                assert run in rows, f"{run} was promised and is lost"
                assert rows[run].number == number
            for run in witness.finished:
                assert rows[run].status in ("succeeded", "failed")
                assert rows[run].finished is not None
            unfinished = {row.id: row for row in await queue.unfinished()}
            assert not unfinished.keys() & set(witness.finished)
            for run, row in unfinished.items():
                assert row.document in (run, run * 2000)
                assert row.journal in ({}, {"step": run.encode() * 20})
                assert row.journal or run not in witness.journalled, f"the journal of {run} is lost"
            assert set(unfinished) & witness.journalled, "no journal outlived a kill: the test shows nothing"
            assert max(row.boots for row in unfinished.values()) >= 10
            assert await queue.add(RunRow("after")) > max(row.number for row in rows.values())
        finally:
            queue.close()

    asyncio.run(look())
