"""The language model's step: a cache that has its room from the start says what one that grows says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.nextgpt.model import decode_step
from nodes.nextgpt.model.decode_step import FixedReader, GrowingReader, reader
from nodes.nextgpt.model.generation import GenerateOptions, Generation, generate
from nodes.nextgpt.model.language import TINY_BASE_SIZE, LanguageConfig, LanguageModel
from nodes.nextgpt.model.signals import SignalPolicy, SignalVocabulary

torch.set_num_threads(1)
SIGNALS = SignalVocabulary.create(TINY_BASE_SIZE)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.random(LanguageConfig.tiny(), 0)


@pytest.fixture(scope="module")
def prompt(model: LanguageModel) -> Tensor:
    return model.embed([1, 40, 71, 9, 1200])[None]


class Replays:
    """As a CUDA graph: capturing computes nothing, a replay computes into the same tensor."""

    held_bytes = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = torch.empty(self.size)

        def replay() -> None:
            result.copy_(run())

        return replay, result

    def let_go(self) -> None:
        pass


@pytest.mark.parametrize(
    "options",
    [
        GenerateOptions(max_new_tokens=24, greedy=True),
        GenerateOptions(max_new_tokens=24, temperature=0.8, top_p=0.9, seed=5, repetition_penalty=1.2),
    ],
    ids=["greedy", "drawn"],
)
def test_a_fixed_cache_says_the_same(model: LanguageModel, prompt: Tensor, options: GenerateOptions) -> None:
    policy = SignalPolicy({"image": "always"}, {"image": 1})
    told: list[list[int]] = [[], []]

    def said(static: bool) -> Generation:
        return generate(
            model, prompt, options, SIGNALS, policy, on_token=lambda i, _: told[static].append(i), static=static
        )

    growing, fixed = said(False), said(True)
    assert fixed.ids == growing.ids and len(fixed.ids) == 24
    assert told[0] == told[1] == list(fixed.ids)
    assert [run.modality for run in fixed.trace] == [run.modality for run in growing.trace] == ["image"]
    for name in ("hidden", "embeds", "confidence"):
        torch.testing.assert_close(getattr(fixed, name), getattr(growing, name), rtol=1e-4, atol=1e-5)
    assert fixed.hidden.shape == (24, 64)
    for modality, mass in growing.signal_mass.items():
        torch.testing.assert_close(fixed.signal_mass[modality], mass, rtol=1e-3, atol=1e-7)


def test_without_a_wish_a_cpu_keeps_the_growing_cache_to_the_bit(model: LanguageModel, prompt: Tensor) -> None:
    assert isinstance(reader(model, 40), GrowingReader)
    options = GenerateOptions(max_new_tokens=8, greedy=True)
    one, other = generate(model, prompt, options), generate(model, prompt, options, static=False)
    assert one.ids == other.ids and torch.equal(one.hidden, other.hidden)


def test_cancelling_ends_a_fixed_cache_too(model: LanguageModel, prompt: Tensor) -> None:
    said: list[int] = []
    options = GenerateOptions(max_new_tokens=20, greedy=True)
    found = generate(
        model, prompt, options, on_token=lambda i, _: said.append(i), cancelled=lambda: len(said) >= 3, static=True
    )
    assert found.finished == "cancelled" and list(found.ids) == said and len(said) == 3
    assert found.hidden.shape[0] == 3


def test_replayed_steps_are_those_of_the_model(model: LanguageModel, prompt: Tensor) -> None:
    recorder = Replays(model.vocab_size + model.hidden_size)
    replayed = reader(model, 16, True, recorder)
    plain: Any = reader(model, 16, False)
    assert isinstance(replayed, FixedReader)
    with torch.no_grad():
        for embeds in (prompt, *(model.embed([i])[None] for i in (5, 90, 700, 3, 17))):
            (logits, state), (wanted, wanted_state) = replayed.read(embeds), plain.read(embeds)
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
            if embeds.shape[1] == 1:
                torch.testing.assert_close(state, wanted_state, rtol=1e-4, atol=1e-4)
    assert replayed.replays == 4


def test_models_that_cannot_have_it_keep_the_growing_cache(
    model: LanguageModel, prompt: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliding = LanguageModel.random(
        LanguageConfig(
            "mistral",
            {
                "vocab_size": 64,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "sliding_window": 8,
            },
        ),
        0,
    )
    assert isinstance(reader(sliding, 40, True), GrowingReader)
    monkeypatch.setattr(type(model.causal), "_can_compile_fullgraph", False)
    assert isinstance(reader(model, 40, True), GrowingReader)
    monkeypatch.undo()
    # Weights that come and go: no fixed cache, though the device would have it.
    assert decode_step._is_resident(model)
    hook = model.causal.lm_head.register_forward_pre_hook(lambda *_: None)
    assert not decode_step._is_resident(model)
    hook.remove()


def test_the_benchmark_runs_small(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.bench.decode_step import main

    assert main(["--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "growing" in said and "fixed" in said and "tokens/s" in said
