"""Where talks come from: the world without end, a pool of it, or the files of a data set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.talk import Talk, Talker
from nodes.nextgpt.training.world.terms import Language
from nodes.nextgpt.training.world.typical import TypicalTalker

CHINESE = 0.4
"""Share of talks in Chinese."""


class Source:
    """Talks of some kinds. Raises AnyloomError for a data set that is empty or broken. paired: see `Talker`."""

    def __init__(
        self, plan: Plan, kinds: Sequence[str], weights: Sequence[float] | None = None, paired: float = 0.0
    ) -> None:
        self.plan, self.paired = plan, paired
        self.kinds = tuple(kinds)
        self.weights = tuple(weights) if weights is not None else None
        self._set: list[Talk] | None = None
        if plan.data:
            from nodes.nextgpt.training.data.talks import read_talks

            self._set = read_talks(Path(plan.data), self.kinds)

    @property
    def recurs(self) -> bool:
        """Whether media come again, so that what is frozen of them is worth keeping."""
        return self._set is not None or self.plan.pool > 0

    def talks(self, draw: random.Random, count: int) -> list[Talk]:
        if self._set is not None:
            return [draw.choice(self._set) for _ in range(count)]
        if self.plan.pool:
            seeds = [draw.randrange(self.plan.pool) for _ in range(count)]
            return [self._one(drawer(self.plan.seed, "pool", *self.kinds, seed)) for seed in seeds]
        return [self._one(draw) for _ in range(count)]

    def _one(self, draw: random.Random) -> Talk:
        kind = draw.choices(self.kinds, self.weights)[0]
        language: Language = "zh" if draw.random() < CHINESE else "en"
        if self.plan.typical:
            return TypicalTalker(draw).talk(kind, language)
        plan = self.plan
        talker = Talker(draw, unnamed=plan.unnamed, crowded=plan.crowded, things=plan.things, paired=self.paired)
        return talker.talk(kind, language)
