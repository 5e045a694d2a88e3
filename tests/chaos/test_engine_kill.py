"""Laws P1 and P14 for the engine: a run that was answered with an id survives kill -9 at any moment and ends as it should,
and one that does the killing is not tried for ever.

What is promised of side effects: one that was journaled before the kill is never repeated. Between the effect itself and
its line in the journal there is a moment in which no program can know; there, and only there, it is done again.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from graph_engine.store.queue import RunQueue

ROOT = Path(__file__).parents[2]
KILLS = 10
STEPS = 3
POOL = 2

CHILD = '''
import asyncio, os, random, sys, time
from pathlib import Path
from graph_engine import Effect, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings

def note(path, line):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (line + "\\n").encode())  # one write: lines of a killed child are whole
    os.close(file)

@node(id="k.work")
def work(name: str, log: str, after: int = 0) -> int:
    time.sleep(0.06)
    note(log, name)
    return after + 1

@node(id="k.effect", effect=Effect.EXTERNAL, output=True)
def effect(name: str, log: str, after: int) -> int:
    note(log, name)
    return after

@node(id="k.last", output=True)
def last(after: int) -> int:
    time.sleep(0.4)
    return after

def workflow(name, folder):
    nodes = {}
    for n in range(STEPS):
        values = {"name": f"{name}.{n}", "log": f"{folder}/works"}
        links = {"after": f"w{n - 1}.int"} if n else {}
        nodes[f"w{n}"] = {"type": "k.work", "values": values, "links": links}
    values = {"name": name, "log": f"{folder}/effects"}
    nodes["e"] = {"type": "k.effect", "values": values, "links": {"after": f"w{STEPS - 1}.int"}}
    nodes["l"] = {"type": "k.last", "links": {"after": "e.int"}}
    return {"format": "anyloom", "version": 1, "title": name, "nodes": nodes}

async def main(folder, seed, endless):
    chance = random.Random(seed)
    settings = Settings(data_dir=Path(folder) / "data", pool_threads=POOL, max_attempts=100)
    registry = Registry(f.node_type for f in (work, effect, last))
    engine = await Engine.open(settings, registry=registry, catalog=Catalog())
    assert "torch" not in sys.modules
    os.write(1, b"OPEN\\n")
    number = 0
    while endless:
        name = f"{seed}-{number}"
        record = await engine.submit(workflow(name, folder))
        os.write(1, f"{record.id} {name}\\n".encode())
        number += 1
        if chance.random() < 0.7:
            await engine.wait(record.id)
        if number > 40:
            await asyncio.sleep(60)
    for record in await engine.runs(limit=10_000):
        await engine.wait(record.id)
        record = await engine.run(record.id)
        os.write(1, f"{record.id} {record.status} {record.result}\\n".encode())
    await engine.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "endless"))
'''.replace("STEPS", str(STEPS)).replace("POOL", str(POOL))  # fmt: skip


def child(folder: Path, seed: int, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(seed), mode],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_and_kill(folder: Path, seed: int, lifetime_s: float, promised: dict[str, str]) -> None:
    """The child lives `lifetime_s` after it opened (negative: it may die while it takes up what is left)."""
    process = child(folder, seed, "endless")
    opened = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                if line != "OPEN\n":
                    id, name = line.split()
                    promised[id] = name
                opened.set()

    listener = threading.Thread(target=listen)
    listener.start()
    if lifetime_s < 0:
        time.sleep(0.2 - lifetime_s)
    else:
        opened.wait(30)
        time.sleep(lifetime_s)
    alive = process.poll() is None
    process.kill()
    process.wait()
    listener.join()
    assert process.stdout is not None
    assert process.stderr is not None
    complaint = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert alive, complaint


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def journaled(folder: Path) -> tuple[set[str], set[str]]:
    """Ids of the unfinished runs, and of those among them whose side effect is in the journal."""
    queue = RunQueue(folder)
    try:
        rows = await queue.unfinished()
        return {row.id for row in rows}, {row.id for row in rows if row.journal}
    finally:
        await asyncio.to_thread(queue.close)


@pytest.mark.law("P1")
def test_what_was_answered_survives_kills_and_effects_in_the_journal_are_not_repeated(tmp_path: Path) -> None:
    chance, promised = random.Random(11), {}  # type: ignore[var-annotated]
    finished_effects: dict[str, int] = {}
    survivors = in_journal = 0
    for seed in range(KILLS):
        run_and_kill(tmp_path, seed, chance.uniform(0.1, 1.0) if seed % 4 != 3 else -chance.uniform(0.0, 0.5), promised)
        unfinished, safe = asyncio.run(journaled(tmp_path / "data"))
        survivors, in_journal = survivors + len(unfinished), in_journal + len(safe)
        # What is in the journal, and what belongs to a finished run, has been done as often as it ever will be.
        counts = Counter(lines(tmp_path / "effects"))
        for id, name in promised.items():
            if id in safe or id not in unfinished:
                assert finished_effects.setdefault(name, counts[name]) == counts[name], f"{name} was done again"
                assert counts[name] >= 1

    last = child(tmp_path, KILLS, "finish")
    out, complaint = last.communicate(timeout=60)
    assert last.returncode == 0, complaint
    ended = dict(line.split(" ", 1) for line in out.splitlines() if line != "OPEN")
    for id, name in promised.items():
        assert ended.get(id) == f"succeeded {{'e': {{'int': {STEPS}}}, 'l': {{'int': {STEPS}}}}}", name

    effects, works = Counter(lines(tmp_path / "effects")), Counter(lines(tmp_path / "works"))
    for name in promised.values():
        assert effects[name] >= 1
        assert all(works[f"{name}.{n}"] >= 1 for n in range(STEPS))
    for name, count in finished_effects.items():
        assert effects[name] == count, f"{name} was done again"
    # At a kill, at most as many effects hang between being done and being journaled as jobs may run, and one more
    # that reported a moment before. A pure step is lost only while it runs or while its file is being written.
    assert sum(effects.values()) - len(effects) <= KILLS * (POOL + 1)
    assert sum(works.values()) - len(works) <= KILLS * (POOL + 2)

    assert len(promised) >= 10, "the children did no work worth killing"
    assert survivors >= 5, "hardly a run was unfinished at a kill: the test shows nothing"
    assert in_journal >= 1, "no journal outlived a kill: the test shows nothing"


DEADLY = """
import asyncio, os, sys
from pathlib import Path
from graph_engine import Effect, Needs, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings

@node(id="k.deadly", effect=Effect.EXTERNAL, output=True, needs=Needs(inline=True))
def deadly(log: str) -> int:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"x")
    os._exit(9)  # at once, on the event loop: nothing is written any more that was only asked for

async def main(folder, boot):
    registry = Registry([deadly.node_type])
    engine = await Engine.open(Settings(data_dir=Path(folder) / "data"), registry=registry, catalog=Catalog())
    if boot == "first":
        nodes = {"d": {"type": "k.deadly", "values": {"log": f"{folder}/marks"}}}
        await engine.submit({"format": "anyloom", "version": 1, "title": "deadly", "nodes": nodes})
    for record in await engine.runs(limit=10):
        record = await engine.wait(record.id, 20)
        print(record.status, [(error["code"], error["message"]) for error in record.errors])
    await engine.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.law("P14")
def test_a_run_that_kills_the_server_at_once_is_begun_three_times_and_no_more(tmp_path: Path) -> None:
    def boot(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DEADLY, str(tmp_path), name]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    for name in ("first", "again", "again"):
        died = boot(name)
        assert (died.returncode, died.stdout) == (9, ""), died.stderr
    last = boot("again")
    assert last.returncode == 0, (last.returncode, last.stderr)
    assert last.stdout.startswith("failed [('poisoned', 'the server died 3 times"), last.stdout
    assert (tmp_path / "marks").read_text() == "xxx"
