"""What Prometheus reads at `/metrics`: the state of one engine and its server, looked at when it asks.

Nothing is counted for it while runs go on; every number stands somewhere already. Two servers in one process have nothing
in common. Labels are bounded: statuses, outcomes, devices, and at most TYPES_KEPT node types.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import graph_engine
from graph_engine.record import ENDED
from graph_engine.telemetry import BUCKETS_S, Times
from web.state import House

OUTCOMES = ("done", "cached", "skipped", "failed", "blocked", "cancelled", "retrying")
BOUNDS = (*(f"{bound:g}" for bound in BUCKETS_S), "+Inf")


class Look(Collector):
    """One look: taken on the event loop, written out anywhere."""

    def __init__(self, house: House) -> None:
        self._families = [*_work(house), *_times(house), *_caches(house), *_devices(house), *_server(house)]

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _work(house: House) -> Iterator[Metric]:
    activity, outcomes = house.engine.activity(), house.engine.outcomes()
    ended = {status: float(outcomes.get(f"run {status}", 0)) for status in sorted(ENDED)}
    yield _counter("anyloom_runs", "Runs that ended, by status.", "status", ended)
    yield GaugeMetricFamily("anyloom_runs_active", "Runs under way.", value=activity["runs"]["active"])
    steps = {outcome: float(outcomes.get(outcome, 0)) for outcome in OUTCOMES}
    yield _counter("anyloom_steps", "What came of steps.", "outcome", steps)
    yield _gauge("anyloom_tasks", "Tasks that run, and those that wait for a place.", "state", activity["tasks"])
    waiting = len(activity["waiting"])
    yield GaugeMetricFamily("anyloom_waiting_for_memory", "Tasks that have a place but no room yet.", value=waiting)


def _times(house: House) -> Iterator[Metric]:
    words = "How long steps of a millisecond or more computed, by node type; quicker ones are in anyloom_steps only."
    family = HistogramMetricFamily("anyloom_node_seconds", words, labels=["type"])
    for type, times in sorted(house.engine.telemetry.times.items()):
        family.add_metric([type], buckets=list(zip(BOUNDS, _sums(times), strict=True)), sum_value=times.seconds)
    yield family


def _sums(times: Times) -> list[float]:
    """Up to each bound, all that is below it."""
    total, sums = 0, []
    for count in times.counts:
        total += count
        sums.append(float(total))
    return sums


def _caches(house: House) -> Iterator[Metric]:
    stats = house.engine.cache_stats()
    caches: dict[str, Any] = {name: stats[name] for name in ("memory", "disk") if name in stats}
    for what, words in (("bytes", "Bytes of kept results."), ("entries", "Kept results.")):
        yield _gauge(f"anyloom_cache_{what}", words, "cache", {name: cache[what] for name, cache in caches.items()})
    for what in ("hits", "misses", "evictions"):
        values = {name: float(cache[what]) for name, cache in caches.items()}
        yield _counter(f"anyloom_cache_{what}", f"Of results: {what}.", "cache", values)
    yield GaugeMetricFamily("anyloom_results_held", "Results that runs hold.", value=stats["held"])


def _devices(house: House) -> Iterator[Metric]:
    devices = house.engine.memory()["devices"]
    family = GaugeMetricFamily("anyloom_device_bytes", "Memory of a device.", labels=["device", "what"])
    for device in devices:
        for what in ("total", "free", "budget", "used", "reserved"):
            family.add_metric([device["device"], what], device[f"{what}_bytes"])
    yield family
    models = GaugeMetricFamily("anyloom_models", "Models on a device, by state.", labels=["device", "state"])
    for device in devices:
        for state in ("resident", "streaming", "loading"):
            models.add_metric([device["device"], state], sum(model["state"] == state for model in device["models"]))
    yield models
    for what, words in (
        ("copied_bytes", "Bytes of weights brought to a device."),
        ("loads", "Models brought to a device, whole or block by block."),
        ("evictions", "Models that left a device."),
    ):
        values = {device["device"]: float(device[what]) for device in devices}
        yield _counter(f"anyloom_device_{what}", words, "device", values)
    flights = {device["device"]: float(sum(one["bytes"] for one in device["transfers"])) for device in devices}
    yield _gauge("anyloom_device_transfer_bytes", "Bytes on their way to a device.", "device", flights)


def _server(house: House) -> Iterator[Metric]:
    yield InfoMetricFamily("anyloom", "The server.", value={"version": graph_engine.__version__})
    yield GaugeMetricFamily("anyloom_websocket_clients", "Open websockets.", value=len(house.sockets))
    yield GaugeMetricFamily(
        "anyloom_uptime_seconds", "Since the server started.", value=time.monotonic() - house.started
    )
    process = house.engine.memory()["process_bytes"]
    yield GaugeMetricFamily("anyloom_process_resident_bytes", "Memory of the process.", value=process)
    yield GaugeMetricFamily("anyloom_loop_lag_seconds", "How late the event loop was last.", value=house.pulse.latest_s)
    worst = house.pulse.worst_s()
    yield GaugeMetricFamily("anyloom_loop_lag_worst_seconds", "The worst of it since the last look.", value=worst)
