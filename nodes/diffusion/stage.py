"""Stage: which part of a pipeline is at work. It is leased to the job; the others may leave, and come when it is their turn.

Pipelines of diffusers call their parts one after the other: text encoders, then the denoiser in its loop, then what makes
pictures or sound of its answer. So the memory has to hold the largest of them, not their sum.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from graph_engine import NodeContext
from graph_engine.models.spec import ModelSpec

_TEXT = ("text_encoder", "text_encoder_2", "projection_model", "language_model")
ORDER: Mapping[str, tuple[str, ...]] = {
    "AudioLDM2Pipeline": (*_TEXT, *_TEXT, "unet", "vae", "vocoder"),
    "LTXPipeline": ("text_encoder", "transformer", "vae"),
    "AnimateDiffPipeline": ("text_encoder", "unet", "vae"),
}
"""In which order a pipeline uses its parts. A wrong guess costs a copy, never a result."""
WEIGHTLESS = frozenset({"modules", "named_modules", "children", "named_children", "_reset_stateful_cache"})
"""Methods that look at what a module consists of, or tidy up what is never switched on here."""
SKELETONS_KEPT = 32

_skeletons: dict[str, Any] = {}
_building = threading.Lock()


def in_order(kind: str, parts: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The parts as the pipeline uses them first; those that it is not known to use come last."""
    order = ORDER.get(kind, ())
    return dict(sorted(parts.items(), key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order)))


class Stage:
    """Of one job. kind: the pipeline's class."""

    def __init__(self, context: NodeContext, kind: str) -> None:
        self._context, self._order = context, ORDER.get(kind, ())
        self._cursor = 0
        """How much of the order is over."""
        self._at: StandIn | None = None
        self._module: Any = None

    @property
    def device(self) -> str:
        return self._context.device

    def stand_in(self, place: str, spec: ModelSpec) -> StandIn:
        return StandIn(self, place, spec)

    def enter(self, part: StandIn) -> Any:
        """The part's module, with its weights; whichever was at work before may leave. Raises what leasing raises."""
        if part is not self._at:
            if self._at is not None:
                self._context.give_back(self._at._spec)
            self._at = self._module = None
            self._module = self._context.model(part._spec, again=self._again(part._place))
            self._at = part
        return self._module

    def _again(self, place: str) -> int | None:
        """How many parts later this one is used once more by the same job; None for never."""
        if place not in self._order[self._cursor :]:
            return None
        here = self._order.index(place, self._cursor)
        self._cursor = here + 1
        later = self._order[self._cursor :]
        return later.index(place) + 1 if place in later else None


class StandIn:
    """Stands in a pipeline for a part. What can be said without weights (settings, sizes, dtype, its class) it says by
    itself; everything else brings the part to the stage."""

    def __init__(self, stage: Stage, place: str, spec: ModelSpec) -> None:
        self._stage, self._place, self._spec = stage, place, spec
        self._skeleton = _skeleton(spec)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Pipelines ask their parts what they are."""
        return type(self._skeleton)

    @property
    def device(self) -> Any:
        import torch

        return torch.device(self._stage.device)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._stage.enter(self)(*args, **options)

    def __getattr__(self, name: str) -> Any:
        import torch

        found = getattr(self._skeleton, name)
        if name not in WEIGHTLESS and (callable(found) or isinstance(found, torch.Tensor)):
            return getattr(self._stage.enter(self), name)
        return found


def _skeleton(spec: ModelSpec) -> Any:
    """The module without weights, in the dtype of the spec; kept, because building one takes up to a second."""
    from graph_engine.models.load import dtype_of, empty
    from nodes.diffusion.families import FAMILIES

    with _building:
        found = _skeletons.get(spec.key)
        if found is None:
            family = next(family for family in FAMILIES if family.name == spec.family)
            found = empty(spec, family).to(dtype_of(spec.dtype)).eval()
            while len(_skeletons) >= SKELETONS_KEPT:
                del _skeletons[next(iter(_skeletons))]
            _skeletons[spec.key] = found
        return found
