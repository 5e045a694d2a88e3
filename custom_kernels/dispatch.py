"""Who computes an operation: the table, the automatic choice, and which choice ran.

`kernels` is "auto", a family ("triton", "sdpa", "xformers", "torch", "reference") or one row ("sdpa.flash"). "auto" takes
the tuned table of the device, and what it names but cannot run here is passed over. Anything else is an order: if it
cannot be carried out, the call fails and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from custom_kernels import attention, norms, pointwise, tuned
from custom_kernels.device import DeviceFacts
from custom_kernels.implementation import Case, Implementation

KERNELS = ("auto", "triton", "sdpa", "xformers", "reference")

# Rows in the order in which "auto" falls back when the tuned table names nothing that runs.
TABLE: dict[str, tuple[Implementation, ...]] = {
    "attention": attention.IMPLEMENTATIONS,
    "frame_attention": attention.FRAME_IMPLEMENTATIONS,
    "group_norm_silu": norms.GROUP_NORM_SILU,
    "layer_norm": norms.LAYER_NORM,
    "geglu": pointwise.GEGLU,
    "add_scaled": pointwise.ADD_SCALED,
    "add_bias": pointwise.ADD_BIAS,
    "add_layer_norm": norms.ADD_LAYER_NORM,
}

# Per thread and task: what ran since `record()` was entered, (operation, implementation) -> calls.
_RAN: ContextVar[Counter[tuple[str, str]] | None] = ContextVar("ran", default=None)


class KernelError(ValueError):
    """An implementation that was asked for by name cannot compute this case."""


@lru_cache(maxsize=4096)
def choose(case: Case, kernels: str = "auto") -> Implementation:
    """The row that computes a case.

    Raises KernelError if `kernels` names something that is unknown or cannot compute it.
    """
    rows = TABLE[case.operation]
    if kernels == "auto":
        preferred = tuned.tuned_for(DeviceFacts(case.device_type, case.arch, case.device_name)).preferred(case)
        for name in preferred:
            for row in rows:
                if name in (row.name, row.family) and row.why_not(case) is None:
                    return row
        return next(row for row in rows if row.family != "triton" and row.why_not(case) is None)
    wanted = [row for row in rows if kernels in (row.name, row.family)]
    if not wanted:
        known = ", ".join(dict.fromkeys(name for row in rows for name in (row.family, row.name)))
        raise KernelError(f"{case.operation} has no implementation {kernels!r}; there are auto, {known}")
    reasons = [(row.name, row.why_not(case)) for row in wanted]
    for row, (_, reason) in zip(wanted, reasons, strict=True):
        if reason is None:
            return row
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons)
    raise KernelError(f"kernels={kernels!r} cannot compute {case}. {why}. Choose kernels='auto' to let others do it")


def forget() -> None:
    """Read the tuned tables again and choose anew."""
    tuned.forget()
    choose.cache_clear()


@contextmanager
def record() -> Iterator[Counter[tuple[str, str]]]:
    """Count which implementation runs: `with record() as ran: unet(...)`; ran["attention", "triton"] is the calls.

    Calls that a CUDA graph replays are counted when it is captured. Recordings may be nested; each sees what is inside it.
    """
    ran: Counter[tuple[str, str]] = Counter()
    outer = _RAN.get()
    token = _RAN.set(ran)
    try:
        yield ran
    finally:
        _RAN.reset(token)
        if outer is not None:
            outer.update(ran)


def note(operation: str, name: str) -> None:
    """Called by the operations: `name` computes one."""
    ran = _RAN.get()
    if ran is not None:
        ran[operation, name] += 1


def summary(ran: Counter[tuple[str, str]]) -> str:
    """What ran, for people: "attention: triton 22, sdpa.cudnn 10; geglu: triton 16"."""
    parts: dict[str, list[str]] = {}
    for (operation, name), calls in sorted(ran.items(), key=lambda entry: (entry[0][0], -entry[1], entry[0][1])):
        parts.setdefault(operation, []).append(f"{name} {calls}")
    return "; ".join(f"{operation}: {', '.join(rows)}" for operation, rows in parts.items())
