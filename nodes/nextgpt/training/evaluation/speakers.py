"""Speakers: prompts answered by several processes at once, one model in each, on the CPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from nodes.nextgpt.training.evaluation.prompts import Prompt
from nodes.nextgpt.training.evaluation.speaker import Answer, Made, Speaker
from nodes.nextgpt.training.parts import Parts

_speaker: Speaker | None = None
Sent = tuple[str, tuple[tuple[str, np.ndarray, str], ...], float]
"""An answer without tensors, each of which would hold a file open between two processes."""


def answers(count: int, preset: str, folder: Path, models_dir: Path, prompts: Sequence[Prompt]) -> Iterator[Answer]:
    """In the order of the prompts, each as soon as it and those before it are there. What a process raises is raised here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _open, (preset, folder, models_dir)) as pool:
        for text, made, seconds in pool.map(_answer, prompts):
            media = tuple(Made(modality, torch.from_numpy(value), said) for modality, value, said in made)
            yield Answer(text, media, seconds)


def _open(preset: str, folder: Path, models_dir: Path) -> None:
    global _speaker
    torch.set_num_threads(1)
    _speaker = Speaker(Parts(preset, folder, models_dir))


def _answer(prompt: Prompt) -> Sent:
    assert _speaker is not None
    answer = _speaker.answer(prompt.turns)
    made = tuple((made.modality, made.value.float().cpu().numpy(), made.said) for made in answer.made)
    return answer.text, made, answer.seconds
