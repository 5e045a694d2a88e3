"""Frames: how long those of a page take while a hand moves its pointer, one event per frame, as a mouse makes them.

A hand is a function of JavaScript: of what it shall do it makes `{begin, move, end}`; `move` gets the phase of its path.
"""

from __future__ import annotations

import statistics

from playwright.sync_api import Page

SECONDS = 2.0

COUNT = """async ([what, seconds]) => {
    const hand = (HAND)(what);
    hand.begin();
    const times = [];
    const begin = performance.now();
    await new Promise(done => {
        const step = now => {
            times.push(now);
            hand.move((now - begin) / 400);
            if (now - begin < seconds * 1000) requestAnimationFrame(step); else done();
        };
        requestAnimationFrame(step);
    });
    hand.end();
    return times.slice(1).map((time, index) => time - times[index]);
}"""


def frames(page: Page, hand: str, what: str, seconds: float = SECONDS) -> list[float]:
    """Milliseconds of each."""
    times: list[float] = page.evaluate(COUNT.replace("HAND", hand), [what, seconds])
    return times


def fps(page: Page, hand: str, what: str) -> str:
    """The median of three tries: other programs of this machine take their turns too."""
    tries = (1000 / statistics.mean(frames(page, hand, what, SECONDS / 2)) for _ in range(3))
    return f"{statistics.median(tries):.0f} fps"


def dragged(page: Page, hand: str) -> str:
    times = frames(page, hand, "drag")
    return f"{statistics.mean(times):.1f} ms, p95 {statistics.quantiles(times, n=20)[-1]:.1f} ms"
