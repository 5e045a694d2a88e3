"""What is told of copies to a CUDA device: they are over when the device says so. With a stream that is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from graph_engine.errors import ModelError
from graph_engine.memory import cuda_mover
from graph_engine.memory.cuda_mover import CudaMover
from graph_engine.memory.slabs import Slabs
from graph_engine.memory.watched import WatchedMover
from graph_engine.models.sources import Source
from graph_engine.telemetry import Telemetry

BYTES, COPY_S = 4_000, 0.25
SOURCES = [Source(name, (1_000,), torch.float32, value=torch.arange(1_000.0)) for name in "abcd"]


class Event:
    """at_s: when the device is to come by, by a clock that begins at some other moment than the host's."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timed, self.at_s = enable_timing, 0.0

    def query(self) -> bool:
        return self.at_s <= Stream.clock_s

    def elapsed_time(self, other: Event) -> float:
        assert self.timed and other.timed
        return (other.at_s - self.at_s) * 1000

    def synchronize(self) -> None:
        Stream.clock_s = max(Stream.clock_s, self.at_s)


class Stream:
    """Every second event comes after a copy, which takes COPY_S; the device goes as far as `clock_s`."""

    clock_s = 0.0

    def __init__(self) -> None:
        self.end_s, self.events = 1e6, 0

    def record_event(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        if event.timed:
            self.end_s += COPY_S * (self.events % 2)
            self.events += 1
        event.at_s = self.end_s
        return event

    def wait_event(self, event: Event) -> None:
        pass


@pytest.fixture
def mover(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WatchedMover, Telemetry]]:
    stream = Stream()
    monkeypatch.setattr(cuda_mover, "_copy_stream", lambda device: stream)
    monkeypatch.setattr(Stream, "clock_s", 0.0)
    for name, value in {
        "Event": Event,
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device: stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    telemetry = Telemetry()
    made = WatchedMover(CudaMover(torch.device("cpu"), Slabs(10**6), "m"), telemetry, "cuda:0", "m")
    yield made, telemetry
    made.close()


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.001)


def test_a_copy_is_under_way_until_the_device_has_done_it(mover: tuple[WatchedMover, Telemetry]) -> None:
    watched, telemetry = mover
    tickets = [watched.fetch([source]) for source in SOURCES]
    for ticket in tickets:
        watched.ready(ticket)  # it may be computed with in its turn; that it is there nobody has said
    time.sleep(0.05)
    assert len(telemetry.flights("cuda:0")) == 4 and not telemetry.spans
    Stream.clock_s = 1e6 + 2 * COPY_S
    until(lambda: len(telemetry.flights("cuda:0")) == 2)
    watched.done(tickets[3])  # the host is done with what the device has not got yet
    Stream.clock_s = 1e6 + 4 * COPY_S
    until(lambda: not telemetry.flights("cuda:0"))
    assert telemetry.devices["cuda:0"].copied_bytes == 4 * BYTES
    spans = list(telemetry.spans)
    assert [span.end_s - span.begin_s for span in spans] == pytest.approx([COPY_S] * 4, abs=1e-6)
    assert spans[0].end_s == pytest.approx(spans[1].begin_s, abs=1e-6), "one after the other"
    assert spans[2].end_s == pytest.approx(spans[3].begin_s, abs=1e-6)
    assert time.perf_counter() - 1 < spans[3].end_s <= time.perf_counter(), "by the clock of the host"


def test_what_is_under_way_when_a_model_leaves_is_waited_for_and_counted(
    mover: tuple[WatchedMover, Telemetry], tmp_path: Path
) -> None:
    watched, telemetry = mover
    failed = watched.fetch([Source("gone", (4,), torch.float32, str(tmp_path / "gone"), 0, torch.float32)])
    watched.ready(watched.fetch(SOURCES[:1]))
    with pytest.raises(ModelError, match="is gone"):
        watched.ready(failed)
    until(lambda: len(telemetry.flights("cuda:0")) == 1)
    watched.close()
    assert telemetry.flights("cuda:0") == []
    assert [(span.what, span.bytes) for span in telemetry.spans] == [("copy", BYTES)]
