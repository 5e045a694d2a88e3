"""The loop in which a language model speaks.

It is our own, because things are needed that a ready-made one does not give together: runs of signal tokens that are
always complete (`signals.py`), the last-layer state at every generated token (also the last one), how sure the model
was at each, and a stream of tokens that can be cancelled. Without signals it says what `generate` of transformers says.

Shapes: H is the hidden size, V the vocabulary, P the prompt length, n the number of generated tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .decode_step import reader
from .language import LanguageModel
from .signals import RunTrace, SignalPolicy, SignalRunProcessor, SignalVocabulary


@dataclass(frozen=True)
class GenerateOptions:
    """How to choose tokens. `temperature=0` or `greedy` takes the most likely; `top_k=0` and `top_p=1` filter nothing.

    `suppress_ids` are never said. Raises ValueError for numbers outside their range.
    """

    max_new_tokens: int = 246
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    greedy: bool = False
    suppress_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"the temperature is {self.temperature}; give 0 for the most likely token, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a share above 0 and at most 1, which keeps every token")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; give 0 to keep every token, or more")
        if self.repetition_penalty <= 0:
            raise ValueError(f"the repetition penalty is {self.repetition_penalty}; give 1 for none, or more")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "suppress_ids": list(self.suppress_ids)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "GenerateOptions":
        return cls(**{**data, "suppress_ids": tuple(data.get("suppress_ids", ()))})


@dataclass(frozen=True)
class Generation:
    """What was said.

    `ids`: the n generated tokens, stop tokens included. `hidden [n, H]`: last-layer state (after the final norm) of
    the step that had token i as its input. `embeds [n, H]`: input embedding of token i. `trace`: why each media run
    is there. `finished`: "stop", "length" or "cancelled" (then a run may be incomplete). `stop_length`: trailing stop
    tokens in `ids`. `confidence [n]`: the probability of the most likely token at each position. `signal_mass`: per
    modality `[n]`, the probability of its first signal token there. Both are the model's own, before temperature,
    filters and what is forbidden or forced.
    """

    ids: tuple[int, ...]
    hidden: Tensor
    embeds: Tensor
    trace: tuple[RunTrace, ...]
    finished: str
    stop_length: int
    confidence: Tensor = field(default_factory=lambda: torch.zeros(0))
    signal_mass: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def answer(self) -> tuple[int, ...]:
        """`ids` without the stop tokens: what to scan for text and media."""
        return self.ids[: len(self.ids) - self.stop_length]


def choose_token(logits: Tensor, options: GenerateOptions, said: Sequence[int], generator: torch.Generator) -> int:
    """One token from float32 logits `[V]` on the CPU; banned ids are at -inf and are never chosen.

    Order of the filters as in transformers: repetition penalty, temperature, top-k, top-p.
    """
    if options.repetition_penalty != 1.0 and said:
        spoken = torch.tensor(sorted(set(said)), dtype=torch.long)
        values = logits[spoken]
        penalised = torch.where(values < 0, values * options.repetition_penalty, values / options.repetition_penalty)
        logits = logits.index_copy(0, spoken, penalised)
    if options.greedy or options.temperature == 0:
        return int(logits.argmax())
    logits = logits / options.temperature
    if options.top_k:
        smallest = logits.topk(min(options.top_k, logits.numel())).values[-1]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if options.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits = logits.index_fill(0, order[before >= options.top_p], -torch.inf)
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


@torch.no_grad()
def generate(
    model: LanguageModel,
    inputs_embeds: Tensor,
    options: GenerateOptions,
    vocabulary: SignalVocabulary | None = None,
    policy: SignalPolicy | None = None,
    stop_ids: Sequence[int | Sequence[int]] = (),
    on_token: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    enough: Callable[[], bool] | None = None,
    static: bool | None = None,
) -> Generation:
    """Continue a prompt `inputs_embeds [1, P, H]`.

    `on_token(id, position)` is called as each token is settled; `cancelled()` is asked after each token and
    ends the answer with what was said so far; `enough()` ends it as a stop token does, after the runs that are
    demanded. `static`: whether the cache has its room from the start (see `decode_step.reader`). The same seed gives the
    same answer on the same device; the draw itself is made on the CPU. Raises ValueError for a prompt of another shape,
    one that leaves no room for `max_new_tokens` in the context, a vocabulary the model is too small for, or a policy the
    budget cannot satisfy.
    """
    if inputs_embeds.ndim != 3 or inputs_embeds.shape[0] != 1 or inputs_embeds.shape[2] != model.hidden_size:
        raise ValueError(f"the prompt must be [1, P, {model.hidden_size}], is {list(inputs_embeds.shape)}")
    length = inputs_embeds.shape[1] + options.max_new_tokens
    if length > model.context_length:
        raise ValueError(
            f"a prompt of {inputs_embeds.shape[1]} tokens and {options.max_new_tokens} new ones exceed the context of "
            f"{model.context_length}; shorten the conversation or lower max_new_tokens"
        )
    if vocabulary is not None and vocabulary.size > model.vocab_size:
        raise ValueError(
            f"signal tokens reach id {vocabulary.size - 1}, the model has {model.vocab_size} tokens; "
            "grow its vocabulary"
        )
    runs = SignalRunProcessor(vocabulary, policy, options.max_new_tokens, stop_ids)
    generator = torch.Generator().manual_seed(options.seed)
    states: list[Tensor] = []
    odds: list[Tensor] = []
    firsts = {m: vocabulary.run(m)[0] for m in vocabulary.modalities} if vocabulary is not None else {}
    text = reader(model, length, static)
    logits, _ = text.read(inputs_embeds.to(model.device, model.dtype))
    finished = None
    while finished is None:
        chances = logits.softmax(-1)
        odds.append(torch.stack([chances.max(), *(chances[first] for first in firsts.values())]))
        token = runs.required()
        if token is None:
            forbidden = torch.tensor([*options.suppress_ids, *runs.banned()], dtype=torch.long)
            token = choose_token(logits.index_fill(0, forbidden, -torch.inf), options, runs.ids, generator)
        token = runs.take(token, lambda i, row=chances: float(row[i]))  # type: ignore[misc]
        if on_token is not None:
            on_token(token, len(runs.ids) - 1)
        if enough is not None and runs.finished is None and enough():
            runs.close()
        finished = runs.finished
        if finished is None and cancelled is not None and cancelled():
            finished = "cancelled"
        # Also after the last token: its state is part of a run that ends with the budget.
        logits, state = text.read(model.embed([token])[None])
        states.append(state)
    confidence, *masses = torch.stack(odds, dim=1)
    return Generation(
        tuple(runs.ids),
        torch.cat(states),
        model.embed(runs.ids),
        tuple(runs.trace),
        finished,
        runs.stop_length,
        confidence,
        dict(zip(firsts, masses, strict=True)),
    )
