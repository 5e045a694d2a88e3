"""One evaluation: every prompt is answered and judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.training.evaluation.distance import frechet
from nodes.nextgpt.training.evaluation.figures import Outcome, figures
from nodes.nextgpt.training.evaluation.prompts import Prompt
from nodes.nextgpt.training.evaluation.speaker import Answer, Speaker
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.media import pictures, waves
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.clip import film
from nodes.nextgpt.training.world.talk import Talker

Progress = Callable[[int, int, Outcome], None]


@dataclass(frozen=True)
class Evaluation:
    """answers stand in the order of outcomes."""

    outcomes: tuple[Outcome, ...]
    answers: tuple[Answer, ...]
    figures: dict[str, float]


def evaluate(
    speaker: Speaker,
    prompts: Sequence[Prompt],
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
    given: Iterable[Answer] | None = None,
) -> Evaluation:
    """Answers and judges all prompts. `stopped()` ends it early, with the figures of what was answered. given: the answers in
    the order of the prompts, where others give them (`speakers.py`); the speaker then only looks at them."""
    outcomes: list[Outcome] = []
    answers: list[Answer] = []
    given = (speaker.answer(prompt.turns) for prompt in prompts) if given is None else given
    for prompt, answer in zip(prompts, given, strict=True):
        outcome = Outcome(
            prompt,
            answer.text,
            tuple(made.modality for made in answer.made),
            verdicts(prompt, answer),
            answer.seconds,
        )
        outcomes.append(outcome)
        answers.append(answer)
        if progress is not None:
            progress(len(outcomes), len(prompts), outcome)
        if stopped is not None and stopped():
            break
    found = figures(outcomes)
    found |= _in_space(speaker, prompts[: len(outcomes)], answers)
    return Evaluation(tuple(outcomes), tuple(answers), found)


def verdicts(prompt: Prompt, answer: Answer) -> tuple[dict[str, bool], ...]:
    """One per wish: the n-th picture that was wished for is judged by the n-th picture of the answer."""
    left: dict[str, list[Any]] = defaultdict(list)
    for made in answer.made:
        left[made.modality].append(made.value)
    found = []
    for wish in prompt.wishes:
        if wish["modality"] == "text":
            found.append(dict(judge(wish, answer.text)))
        else:
            there = left[wish["modality"]]
            found.append(dict(judge(wish, there.pop(0) if there else None)))
    return tuple(found)


def _in_space(speaker: Speaker, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> dict[str, float]:
    """Round trip (does what was made lie nearest to its own words?) and Fréchet distance to what the world would draw."""
    made: dict[str, list[Tensor]] = defaultdict(list)
    said: dict[str, list[Tensor]] = defaultdict(list)
    for answer in answers:
        for medium in answer.made:
            made[medium.modality].append(speaker.embedding(medium.modality, medium.value))
            said[medium.modality].append(speaker.text_embedding(medium.said))
    found = {}
    for modality, vectors in made.items():
        if len(vectors) < 4:
            continue
        ours, words = torch.stack(vectors), torch.stack(said[modality])
        # Equal words are equally near; the own ones count as hit then.
        nearness = torch.nn.functional.normalize(ours, dim=-1) @ torch.nn.functional.normalize(words, dim=-1).T
        best = nearness.amax(1)
        found[f"round_trip_{modality}"] = float((nearness.diagonal() >= best - 1e-6).float().mean())
        real = torch.stack([speaker.embedding(modality, value) for value in _real(modality, len(vectors))])
        found[f"frechet_{modality}"] = frechet(ours, real)
    return found


def _real(modality: str, count: int) -> list[Tensor]:
    talker = Talker(drawer("reference", modality), withheld=True)
    if modality == "image":
        return list(pictures([talker.scene() for _ in range(count)], (64, 64), "cpu"))
    if modality == "video":
        return list(film([talker.clip() for _ in range(count)]))
    return list(waves([talker.sound() for _ in range(count)], 32_000, "cpu"))
