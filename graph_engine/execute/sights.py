"""Sights: what placement is told of the devices: how much of a job's weights lies where, and how much room there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graph_engine.graph.kinds import ModelKind
from graph_engine.memory.divided import DividedPool
from graph_engine.models.spec import ModelSpec
from graph_engine.schedule.messages import Job, Ref
from graph_engine.schedule.placement import Sight
from graph_engine.store.artifacts import Artifact


def sights(
    job: Job, find: Callable[[str], Artifact | None], models: DividedPool, devices: tuple[str, ...]
) -> dict[str, Sight]:
    """find: key -> artifact that is in memory. Models that cannot be seen yet are not counted."""
    specs = {spec.key: spec for spec in _specs(job, find)}.values()
    found: dict[str, Sight] = {}
    for device in devices:
        holdings = models.holdings(device)
        missing = 0
        for spec in specs:
            size = models.size_of(spec)
            missing += size - holdings.bytes_of(spec, size)
        found[device] = Sight(missing, holdings.free_bytes)
    return found


def _specs(job: Job, find: Callable[[str], Artifact | None]) -> Iterator[ModelSpec]:
    for port, ref in job.inputs.items():
        input = job.type.input(port)
        if input is None or not isinstance(input.kind, ModelKind):
            continue
        for one in ref if isinstance(ref, list) else (ref,):
            yield from _of(one, find)


def _of(ref: Ref, find: Callable[[str], Artifact | None]) -> Iterator[ModelSpec]:
    artifact = find(ref.key)
    if artifact is None:
        return
    value = artifact.outputs[ref.output]
    if isinstance(value, list) and ref.item is not None:
        value = value[ref.item]
    yield from (entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, ModelSpec))
