"""What the loop needs of a stage."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from nodes.nextgpt.training.ledger import Rows

Losses = tuple[Tensor, Mapping[str, Tensor]]


class Stage(ABC):
    """A stage that was opened: its modules are there, and what it trains wants gradients.

    modules  everything it computes with, by part; what wants no gradient is frozen, and the loop checks that it was
    saved    the parts whose weights it leaves in the training folder
    rows     parameters ("part.name") of which only the last rows are trained
    rates    by part, or by "part.layer": a factor on the learning rate
    """

    modules: Mapping[str, nn.Module]
    saved: tuple[str, ...]
    rows: Mapping[str, Rows] = {}
    rates: Mapping[str, float] = {}

    @abstractmethod
    def loss(self, draw: random.Random, count: int) -> Losses:
        """The loss of `count` fresh samples, and what it is made of, to be shown."""

    def finish(self) -> None:  # noqa: B027 - most stages have nothing to do
        """After the last step, with the weights as they will be saved."""

    def publish(self, folder: Path, facts: Mapping[str, str]) -> list[Path]:
        """Writes what is no part of the preset; returns the files."""
        return []
