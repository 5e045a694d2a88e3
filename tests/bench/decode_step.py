"""Tokens per second of a language model of Vicuna-7B's size: `python -m tests.bench.decode_step`.

On a CUDA device. Random weights in bfloat16, a prompt of 512 positions, then one token after another, as `generate` reads
them: with the cache that grows, with the one that has its room from the start, and with that one as a CUDA graph. A token
is timed by the clock, because its logits are needed on the host before the next one can be chosen; medians of two repeats.
The roof is what reading all weights once takes, at the rate of a copy measured in the same run. Before that, the three say
the same logits for the same tokens.

`--dry-run` reads with a small model on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from custom_kernels import timing
from nodes.nextgpt.model.decode_step import FixedReader, GrowingReader, Reader, _fixed_cache
from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

PROMPT, TOKENS = 512, 64
MOST_ERROR = 2e-2


def build(small: bool, device: torch.device) -> LanguageModel:
    config = LanguageConfig.tiny() if small else LanguageConfig.vicuna_7b(32038)
    if small:
        return LanguageModel.random(config, 0)
    with torch.device("meta"):
        model = LanguageModel(config)
    model.to(torch.bfloat16).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
        else:
            parameter.data.fill_(1)
    model.complete()
    return model.eval().requires_grad_(False)


def readers(model: LanguageModel, length: int) -> dict[str, Callable[[], Reader]]:
    def fixed(graph: bool) -> Reader:
        made = FixedReader(model, _fixed_cache(model, length))
        if not graph:
            made._graphs = None
        return made

    found: dict[str, Callable[[], Reader]] = {"growing": lambda: GrowingReader(model), "fixed": lambda: fixed(False)}
    if model.device.type == "cuda":
        found["fixed+graph"] = lambda: fixed(True)
    return found


def read(model: LanguageModel, text: Reader, prompt: int, tokens: int) -> tuple[list[float], Tensor]:
    """Seconds of each token, and the logits after the last."""
    logits, _ = text.read(model.embed([(7 * i) % model.vocab_size for i in range(prompt)])[None])
    taken = []
    for index in range(tokens):
        began = time.perf_counter()
        logits, _ = text.read(model.embed([(31 * index) % model.vocab_size])[None])
        taken.append(time.perf_counter() - began)
    return taken, logits


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decode_step", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="a small model on the CPU: does the script work?")
    chosen = parser.parse_args(arguments)
    if not chosen.dry_run and not torch.cuda.is_available():
        print("there is no CUDA device here; `--dry-run` reads with a small model on the CPU", file=sys.stderr)
        return 2
    device = torch.device("cpu" if chosen.dry_run else "cuda")
    prompt, tokens = (16, 8) if chosen.dry_run else (PROMPT, TOKENS)
    print(", ".join(f"{name} {value}" for name, value in timing.describe(device).items() if value))
    wrong = False
    with torch.no_grad():
        model = build(chosen.dry_run, device)
        weights = sum(p.numel() * p.element_size() for p in nn.Module.parameters(model))
        floor = weights / (timing.ceilings(device).bytes)
        wanted: Tensor | None = None
        for name, make in readers(model, prompt + tokens).items():
            medians = []
            for _ in range(2):
                taken, logits = read(model, make(), prompt, tokens)
                medians.append(statistics.median(taken[3:]))
            wanted = logits if wanted is None else wanted
            error = float((logits - wanted).norm() / wanted.norm())
            wrong = wrong or not error <= MOST_ERROR
            one, other = (f"{seconds * 1e3:8.2f}" for seconds in medians)
            print(
                f"{name:12}{one}{other} ms per token  {1 / min(medians):6.1f} tokens/s  {floor / min(medians):6.1%} of the "
                f"roof  error {error:.1e}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
