"""TensorBoard: the events of training as scalars. Needs the extra `train` (tensorboard)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import RequestError


class Board:
    """One writer per stage, in a folder of its name. Raises RequestError where tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RequestError(
                "tensorboard is not installed.",
                remedy='Install it: pip install "anyloom[train]".',
                code="no_tensorboard",
            ) from error
        self._writer: Any = SummaryWriter
        self._folder = folder
        self._open: dict[str, Any] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        stage = str(event["stage"])
        if stage not in self._open:
            self._open[stage] = self._writer(str(self._folder / stage))
        for name, value in event.items():
            if isinstance(value, float):
                self._open[stage].add_scalar(name, value, int(event["step"]))

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()
