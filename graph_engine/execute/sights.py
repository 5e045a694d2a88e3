"""Sights: what placement is told of the devices: how much of a job's weights lies where, and how much room there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graph_engine.graph.kinds import ModelKind
from graph_engine.memory.divided import DividedPool
from graph_engine.memory.reservations import models_of
from graph_engine.schedule.messages import Job, Ref
from graph_engine.schedule.placement import Sight
from graph_engine.store.artifacts import Artifact


def sights(
    job: Job, find: Callable[[str], Artifact | None], models: DividedPool, devices: tuple[str, ...]
) -> dict[str, Sight]:
    """find: key -> artifact that is in memory. Models that cannot be seen yet are not counted."""
    specs = {spec.key: spec for spec in models_of(job.type, job.literals, _arrived(job, find))}.values()
    found: dict[str, Sight] = {}
    for device in devices:
        holdings = models.holdings(device)
        missing = 0
        for spec in specs:
            size = models.size_of(spec)
            missing += size - holdings.bytes_of(spec, size)
        found[device] = Sight(missing, holdings.free_bytes)
    return found


def _arrived(job: Job, find: Callable[[str], Artifact | None]) -> dict[str, Any]:
    """What lies at the ports of model kinds, as far as it is in memory."""
    arrived: dict[str, Any] = {}
    for port, ref in job.inputs.items():
        input = job.type.input(port)
        if input is None or not isinstance(input.kind, ModelKind):
            continue
        values = [_value(one, find) for one in (ref if isinstance(ref, list) else (ref,))]
        found = [value for value in values if value is not None]
        if found:
            arrived[port] = found if isinstance(ref, list) else found[0]
    return arrived


def _value(ref: Ref, find: Callable[[str], Artifact | None]) -> Any:
    artifact = find(ref.key)
    if artifact is None:
        return None
    value = artifact.outputs[ref.output]
    return value if ref.item is None else value[ref.item]
