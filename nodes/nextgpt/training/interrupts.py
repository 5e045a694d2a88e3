"""Ctrl-C between steps: it is noted when it comes, and counts where weights, average and losses are of one step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupts:
    """noted: whether Ctrl-C was pressed."""

    noted: bool = False


@contextlib.contextmanager
def between_steps() -> Iterator[Interrupts]:
    """As long as this lasts the first Ctrl-C is only noted; the second one raises KeyboardInterrupt wherever it comes.

    Only in the main thread (Python hears signals there alone), and only in place of Python's own handler: servers and
    processes of stages side by side have handlers of their own, and keep them.
    """
    interrupts = Interrupts()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interrupts.noted:
            signal.default_int_handler(number, frame)
        interrupts.noted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
