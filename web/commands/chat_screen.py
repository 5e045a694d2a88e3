"""Screen: what the chat shows. Answers go to standard output; notes, progress and errors to standard error.

On a terminal a status line says what is at work; it is written over itself and leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import AnyloomError
from web.commands.progress import describe

DIM, RED, END, WIPE = "\x1b[2m", "\x1b[31m", "\x1b[0m", "\r\x1b[K"


class Screen:
    def __init__(self, plain: bool) -> None:
        self.lively = not plain and sys.stdout.isatty() and sys.stderr.isatty()
        self.asks = sys.stdin.isatty()
        """Somebody sits there and is shown a prompt; else lines are taken as they come."""
        self.colours = self.lively and not os.environ.get("NO_COLOR")
        self._streaming = False
        self._status = ""
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")  # a byte that is no text must not end the chat

    def words(self, text: str) -> None:
        """A piece of the answer, at once."""
        self._wipe()
        sys.stdout.write(printable(text) if self._streaming else printable(text).lstrip())
        sys.stdout.flush()
        self._streaming = self._streaming or bool(text.strip())

    def answered(self) -> None:
        """The end of the streamed words."""
        self._wipe()
        if self._streaming:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._streaming = False

    def answer(self, text: str) -> None:
        """A whole line of the answer."""
        self.answered()
        print(printable(text), flush=True)

    def note(self, text: str) -> None:
        """For the person, not part of the answer."""
        self._aside(text, DIM)

    def error(self, error: object) -> None:
        if isinstance(error, AnyloomError):
            error = error.to_dict()
        where = ""
        if isinstance(error, Mapping) and error.get("node"):
            where = ".".join(filter(None, (error.get("node"), error.get("port")))) + ": "
        self._aside(f"error: {where}{describe(error)}", RED)

    def status(self, text: str) -> None:
        """What is at work; on a terminal only, and never into the middle of streamed words."""
        if self.lively and not self._streaming and text != self._status:
            self._wipe()
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(self._in(printable(text)[:width], DIM))
            sys.stderr.flush()
            self._status = text

    def file(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.answer(f"  {path}  ({about(facts)})")

    def ask(self, prompt: str) -> str | None:
        """A line from the person; None at the end of the input. Raises KeyboardInterrupt."""
        self.answered()
        try:
            return input(prompt if self.asks else "")
        except EOFError:
            if self.asks:
                print()
            return None

    def _aside(self, text: str, colour: str) -> None:
        self.answered()
        print(self._in(printable(text), colour), file=sys.stderr, flush=True)

    def _wipe(self) -> None:
        if self._status:
            sys.stderr.write(WIPE)
            sys.stderr.flush()
            self._status = ""

    def _in(self, text: str, colour: str) -> str:
        return f"{colour}{text}{END}" if self.colours else text


def printable(text: str) -> str:
    """Text without control characters, which could move the cursor or change the terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())


def about(facts: Mapping[str, Any]) -> str:
    """A file in a few words: "64 x 64", "2 s, 16000 Hz"."""
    found = []
    if "width" in facts:
        found.append(f"{facts['width']} x {facts['height']}")
    if "frames" in facts:
        found.append(f"{facts['frames']} frames")
    if "seconds" in facts:
        found.append(f"{facts['seconds']:g} s")
    if "sample_rate" in facts:
        found.append(f"{facts['sample_rate']} Hz")
    return ", ".join([*found, f"{facts.get('bytes', 0):,} bytes"])
