"""Placement: which device a step goes to, where there are several. Pure; what lies where is told.

A step goes where most of its weights are already; among equals to where most room is free. It waits for a device that is
busy only where waiting is cheaper: when what runs there should be over sooner than the weights could be brought to a free
one. Nobody knows when that will really be over, so a step waits no longer than bringing the weights takes, and then goes to
whichever device is free. So it never takes more than twice as long to begin as the best choice would have (the rule
of ski rental), and no device is idle for longer than that while there is something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from graph_engine.schedule.dispatch import Dispatch
from graph_engine.schedule.messages import Job, Remind, Reminded
from graph_engine.schedule.policy import Lane
from graph_engine.schedule.states import Task
from graph_engine.schedule.wiring import make_job

BRING_BYTES_PER_S = 2e9
"""What is assumed where nothing was measured: weights that lie in the system's file cache."""


class Sight(NamedTuple):
    """What a step would find on a device.

    missing_bytes   of its weights, those that are not there
    free_bytes      room that nothing takes, idle models counted as taken
    """

    missing_bytes: int
    free_bytes: int


class Choice(NamedTuple):
    """Go to `device` now; or, with `patience_s`, wait for it so long at most."""

    device: str
    patience_s: float = 0.0


Look = Callable[[Job], Mapping[str, Sight]]


def choose(
    sights: Mapping[str, Sight],
    free: Sequence[str],
    busy_s: Mapping[str, float],
    bytes_per_s: float = BRING_BYTES_PER_S,
) -> Choice:
    """sights: of every device; none when nothing is known. free: at least one device, the longest idle first. busy_s: how
    long what is at work on a device, or waits for it, takes altogether; a device of which that is not known is left out.
    """
    if not sights:
        return Choice(free[0])

    def cost(device: str) -> tuple[int, int]:
        sight = sights[device]
        return sight.missing_bytes, -sight.free_bytes

    best = min(free, key=cost)
    bring_s = sights[best].missing_bytes / bytes_per_s
    waits = [
        (seconds + sights[device].missing_bytes / bytes_per_s, device)
        for device, seconds in busy_s.items()
        if device in sights and device not in free
    ]
    if waits:
        wait_s, favourite = min(waits)
        if wait_s < bring_s:
            return Choice(favourite, bring_s)
    return Choice(best)


class _Waiting(NamedTuple):
    task: Task
    favourite: str


class Placement(Dispatch):
    """Between dispatch, which knows that a device is free, and the steps."""

    def __init__(self, lanes: Mapping[str, int], devices: tuple[str, ...]) -> None:
        super().__init__(lanes, devices)
        self.look: Look = lambda job: {}
        """Told by whoever knows where weights are."""
        self.bytes_per_s = BRING_BYTES_PER_S
        self._devices = len(devices)
        self._latest: dict[str, Task] = {}
        """Device -> the task that it was given last; it is at work there unless the device is free."""
        self._waiting: dict[str, _Waiting] = {}
        """Tasks that wait for a busy device while another one is free, by key, in the order they came."""
        self._impatient: set[str] = set()
        """Keys of tasks that have waited long enough."""
        self._decided = ""
        """The device of the task that is started next, where that is settled."""

    def _fill_lanes(self) -> None:
        if self._waiting:
            self._begin_waiting(self.lanes["device"])
        super()._fill_lanes()

    def _choose_device(self, task: Task, lane: Lane) -> bool:
        if self._devices < 2:
            return True
        if self._decided:
            self._to_front(task, lane, self._decided)
            self._decided = ""
            return True
        waiting = self._waiting.get(task.key)
        if waiting is not None and waiting.task is task:
            return False  # another run joined it; that changes nothing
        choice = self._choose(task, lane)
        if choice.patience_s:
            self._waiting[task.key] = _Waiting(task, choice.device)
            self._out.append(Remind(task.key, choice.patience_s))
            return False
        self._to_front(task, lane, choice.device)
        return True

    def _begin_waiting(self, lane: Lane) -> None:
        """Those whose device is free now, or who will not wait any longer; first come, first served."""
        for key, (task, favourite) in list(self._waiting.items()):
            if task.dead or task.job:
                self._forget(key)
            elif favourite in lane.devices:
                self._begin_on(task, lane, favourite)
            elif key in self._impatient and lane.devices:
                self._begin_on(task, lane, self._choose(task, lane).device)

    def _begin_on(self, task: Task, lane: Lane, device: str) -> None:
        self._forget(task.key)
        self._decided = device
        self._start(task, lane)

    def _choose(self, task: Task, lane: Lane) -> Choice:
        busy = {} if task.key in self._impatient else self._busy_s(lane)
        return choose(self.look(make_job(task)), lane.devices, busy, self.bytes_per_s)

    def _to_front(self, task: Task, lane: Lane, device: str) -> None:
        lane.devices.remove(device)
        lane.devices.insert(0, device)
        self._latest[device] = task

    def _forget(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._impatient.discard(key)

    def _busy_s(self, lane: Lane) -> dict[str, float]:
        found: dict[str, float] = {}
        for device, task in self._latest.items():
            if device in lane.devices:
                continue
            ahead = [task, *(other.task for other in self._waiting.values() if other.favourite == device)]
            lasted = [self.lasted_ms.get(one.owner.step.type.id) for one in ahead if one.owner.step is not None]
            known = [ms for ms in lasted if ms is not None]
            if len(known) == len(ahead):
                found[device] = sum(known) / 1000
        return found

    def _on_reminded(self, event: Reminded) -> None:
        waiting = self._waiting.get(event.key)
        if waiting is not None:
            self._impatient.add(event.key)
