"""Collector: how often Python's garbage collector runs here, and when it had better wait."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_S = 2.0
"""Pauses that overlap join into one; none joins that is as old as this, so that a flood of workflows cannot keep it off."""

_lock = threading.Lock()
_pauses = 0
_since = 0.0


def settle() -> None:
    """What was imported lives for ever: walking it at each collection costs tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)


def paused(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` without collections: for work of a second at most that makes very many objects which all stay.

    Reading and checking a workflow of 10,000 nodes takes a third less time like this. Several threads may do so at once.
    What was made meanwhile counts as old at once: the next collection would hold up everybody for 10 ms to find it alive.
    """
    global _pauses, _since
    if gc.isenabled():
        gc.collect(0)  # so that no garbage of before grows old with what is made now
    with _lock:
        now = time.monotonic()
        if gc.isenabled():
            _since = now
        # Else somebody has switched it off, and will switch it on.
        ours = gc.isenabled() or (_pauses > 0 and now - _since < LONGEST_S)
        if ours:
            _pauses += 1
            gc.disable()
    if not ours:
        return function(*args, **kwargs)
    try:
        return function(*args, **kwargs)
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses:
                gc.freeze()
                gc.unfreeze()  # both together put everything young (and what `settle` froze) among the old, unseen
                gc.enable()
