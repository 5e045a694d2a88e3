"""One way to compute an operation, and the facts of a call that its conditions look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What a choice may depend on. Values of tensors are not in it, so equal cases get equal answers."""

    operation: str
    device_type: str
    arch: int  # compute capability, 90 for 9.0; 0 where there is none
    device_name: str
    dtype: str  # "float16", "bfloat16", "float32", "float64"
    sizes: tuple[tuple[str, int], ...]  # by name, in the operation's order: (("B", 2), ("H", 8), ...)

    def size(self, name: str) -> int:
        for key, value in self.sizes:
            if key == name:
                return value
        raise KeyError(f"{self.operation} has no size {name!r}")

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={value}" for name, value in self.sizes)
        where = f"{self.device_type} {self.device_name}".strip()
        return f"{self.operation} ({sizes}, {self.dtype}) on {where}" + (f" sm_{self.arch}" if self.arch else "")


@dataclass(frozen=True)
class Implementation:
    """A row of the table. `name` is `family` or `family.variant`: "triton", "sdpa.cudnn"."""

    name: str
    run: Callable[..., Any]  # takes the operation's arguments
    why_not: Callable[[Case], str | None]  # None: it can compute this case

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]


def always(case: Case) -> str | None:
    return None
