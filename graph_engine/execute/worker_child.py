"""Child: one process of a device, from its start to its end, as the server sees it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from graph_engine.execute.worker_clock import Clocks
from graph_engine.execute.worker_parcel import Parcel
from graph_engine.execute.worker_wire import Message, Wire

LAST_WORDS_BYTES = 4_096
LAST_WORDS_SHOWN = 1_200
LAST_READS = 64
"""What it started itself may have its standard error still, and a lot to say."""
REAP_S = 0.002
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from graph_engine.execute.worker_process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


class Ending(NamedTuple):
    """code: as `subprocess` has it, minus the signal's number where it was killed; words: what it wrote last to stderr."""

    code: int
    words: str

    def __str__(self) -> str:
        if self.code < 0:
            name = signal.Signals(-self.code).name if -self.code in set(signal.Signals) else "unknown"
            text = f"ended by signal {-self.code} ({name})"
            if self.code == -signal.SIGKILL:
                text += ", as the system does when memory runs out"
        else:
            text = f"ended with exit code {self.code}"
        return f"{text}; its last words: {self.words}" if self.words else text


class Listener(Protocol):
    """Whoever the child talks to. Called on the loop."""

    def posted(self, job: int, type: str, data: dict[str, Any]) -> None: ...

    def saw(self, job: int, bytes: int) -> None:
        """What a job took beside its models."""

    def noted(self, spans: Sequence[Sequence[Any]], offset_s: float) -> None:
        """What happened to memory and time there; offset_s: our clock is ahead of its."""

    def told(self, form: Mapping[str, Any]) -> None:
        """What models it has."""

    def ended(self, child: Child) -> None: ...


class Child:
    """Made and heard on the loop's thread. `ask` is for one thread at a time, `post` and `kill` for any."""

    def __init__(self, setup: Mapping[str, Any], listener: Listener) -> None:
        """Raises OSError when no process can be started."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._answers: SimpleQueue[Message | None] = SimpleQueue()
        self._gifts: deque[tuple[Future[int], int]] = deque()
        self._words: deque[bytes] = deque()
        self.ending: Ending | None = None
        self.begun = 0
        """The last job that it began."""
        self.ready = False
        self.asked_to_warm = self.warm = False
        """Libraries of nodes are to be imported before the first job; they are."""
        self._clocks = Clocks()
        ours, theirs = socket.socketpair()
        self._errors, errors = os.pipe()
        os.set_blocking(self._errors, False)
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        arguments = [sys.executable, "-P", "-c", START, path, str(theirs.fileno()), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C in a terminal is for the server, which will say what is to be done
            )
        except BaseException:
            ours.close()
            os.close(self._errors)
            raise
        finally:
            theirs.close()
            os.close(errors)
        self._wire = Wire(ours)
        self._loop.add_reader(ours, self._readable)
        self._loop.add_reader(self._errors, self._hear_words)
        with suppress(OSError):  # it died at once; its ending tells why
            self._wire.send("setup", dict(setup))

    # --- any thread ---------------------------------------------------------------------------------------------------

    def ask(self, job: int, parcel: Parcel, extra_bytes: int) -> Message | Ending:
        """Give it a job and wait for its answer, or for its end. The parcel is used up.

        extra_bytes: how much more room its models get.
        """
        try:
            if self.ending is None:
                self._wire.send("job", job, parcel.tree, parcel.body, extra_bytes, time.perf_counter(), fd=parcel.fd)
        except (OSError, ValueError):  # it is gone, or its end was seen just now
            pass
        finally:
            parcel.drop()
        while (answer := self._answers.get()) is not None:
            if answer.parts[1] == job:
                return answer
            Parcel(b"", b"", answer.fd).drop()
        self._answers.put(None)
        assert self.ending is not None
        return self.ending

    def post(self, *parts: Any) -> None:
        with suppress(OSError, ValueError):
            self._wire.post(*parts)

    def give(self, bytes: int) -> int:
        """Ask for some of its room; waits until idle models have left there. When it is dead, nobody has the room."""
        if self.ending is not None:
            return bytes
        gift: Future[int] = Future()
        self._gifts.append((gift, bytes))
        self.post("give", bytes)
        if self.ending is not None:
            return bytes
        return gift.result()

    def kill(self) -> None:
        if self.ending is None:
            self.process.kill()

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            messages = self._wire.arrived()
        except EOFError:
            self._lost()
            return
        for message in messages:
            kind, *rest = message.parts
            if kind == "post":
                self._listener.posted(*rest)
            elif kind == "saw":
                self._listener.saw(*rest)
            elif kind == "report":
                self._answers.put(message)
            elif kind == "spans":
                spans, sent, *answered = rest
                self._clocks.heard(sent, time.perf_counter())
                if answered:
                    self._clocks.answered(*answered)
                self._listener.noted(spans, self._clocks.offset_s)
            elif kind == "warm":
                self.warm = True
            elif kind == "begun":
                self.begun = rest[0]
            elif kind == "memory":
                self.ready = True
                self._listener.told(rest[0])
            elif kind == "given":
                self._gifts.popleft()[0].set_result(rest[0])

    def _hear_words(self) -> None:
        if self._read_words() == b"":
            self._loop.remove_reader(self._errors)

    def _read_words(self) -> bytes | None:
        """What it writes to its standard error goes to ours, and the end of it is kept. Empty once it is closed, None when
        there is nothing at the moment."""
        try:
            words = os.read(self._errors, LAST_WORDS_BYTES)
        except OSError:
            return None
        self._words.append(words)
        while sum(map(len, self._words)) - len(self._words[0]) > LAST_WORDS_BYTES:
            self._words.popleft()
        with suppress(OSError, ValueError, AttributeError):  # a server without a terminal, or with a closed one
            sys.stderr.write(words.decode(errors="replace"))
        return words

    def _lost(self) -> None:
        """The other end is closed: it is dying, or must."""
        self._loop.remove_reader(self._wire)
        self.process.kill()
        self._reap()

    def _reap(self) -> None:
        code = self.process.poll()
        if code is None:
            self._loop.call_later(REAP_S, self._reap)
            return
        for _ in range(LAST_READS):
            if not self._read_words():
                break
        self._loop.remove_reader(self._errors)
        os.close(self._errors)
        self.ending = Ending(code, _last(b"".join(self._words).decode(errors="replace")))
        self._wire.close()
        while self._gifts:  # nobody has its room now
            gift, bytes = self._gifts.popleft()
            gift.set_result(bytes)
        self._listener.ended(self)
        self._answers.put(None)


def _last(words: str) -> str:
    """The end of what it wrote, without the list of libraries that a fault of the interpreter ends with."""
    lines = [line for line in words.splitlines() if line.strip() and not line.startswith("Extension modules:")]
    return "\n".join(lines)[-LAST_WORDS_SHOWN:]
