"""The loop never waits for the device without need, nor runs away from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nodes.nextgpt import denoise
from nodes.nextgpt.model.pace import Pace
from nodes.nextgpt.model.preview import Glance
from tests.contexts import FolderContext


class Mark:
    def __init__(self, number: int, story: list[str]) -> None:
        self.number, self.story = number, story

    def synchronize(self) -> None:
        self.story.append(f"wait for {self.number}")


class Paced(Pace):
    """Events of a device that is not there."""

    def __init__(self, ahead: int) -> None:
        super().__init__(torch.device("cuda"), ahead)
        self.story: list[str] = []
        self.count = 0

    def mark(self) -> Any:
        self.count += 1
        self.story.append(f"step {self.count}")
        return Mark(self.count, self.story)


def test_the_host_is_at_most_so_many_steps_ahead() -> None:
    pace = Paced(2)
    for _ in range(5):
        pace.step()
    assert pace.story == [
        "step 1",
        "step 2",
        "step 3",
        "wait for 1",
        "step 4",
        "wait for 2",
        "step 5",
        "wait for 3",
    ]


def test_on_a_cpu_there_is_nothing_to_wait_for() -> None:
    pace = Pace(torch.device("cpu"))
    for _ in range(5):
        pace.step()
    assert Glance(torch.ones(2, 4, 3, 3)).picture().shape == (3, 3, 3)  # type: ignore[union-attr]


def test_a_preview_is_shown_when_it_has_come_and_only_one_is_on_its_way(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    class Slow(Glance):
        """Three steps under way."""

        def __init__(self, latent: torch.Tensor, *rest: Any) -> None:
            super().__init__(latent, *rest)
            taken.append(int(latent[0, 0, 0, 0]))
            self.asked = 0

        def picture(self) -> torch.Tensor | None:
            self.asked += 1
            return super().picture() if self.asked > 3 else None

    monkeypatch.setattr("nodes.nextgpt.model.preview.Glance", Slow)
    monkeypatch.setattr(denoise, "PREVIEW_EVERY_S", 0.0)
    context = FolderContext(tmp_path)
    report = denoise.reporter(context)
    shown = []
    for step in range(1, 10):
        report(step, 9, torch.full((1, 4, 2, 2), float(step)))
        shown.append(len(context.previews))
    assert taken == [1, 5]
    assert shown == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert len(context.progressed) == 9
