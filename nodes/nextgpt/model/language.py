"""The language model of NExT-GPT and the loop in which it speaks.

A wrapper over any causal language model of transformers (Llama for the presets). The loop is our own, because three
things are needed that a ready-made one does not give together: runs of signal tokens that are always complete
(`signals.py`), the last-layer state at every generated token (also the last one), and a stream of tokens that can be
cancelled.

Shapes: H is the hidden size, V the vocabulary, P the prompt length, n the number of generated tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .signals import RunTrace, SignalPolicy, SignalRunProcessor, SignalVocabulary

# Tokens of the shipped tiny vocabulary (a test compares it with the file); the signal tokens of `tiny()` follow them.
TINY_BASE_SIZE = 1947


@dataclass(frozen=True)
class LanguageConfig:
    """What to build: a transformers `model_type` and the options of its configuration class.

    `options` must hold at least `vocab_size` (signal tokens included), `hidden_size` and `max_position_embeddings`.
    """

    model_type: str = "llama"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def tiny(cls, hidden_size: int = 64, vocab_size: int = TINY_BASE_SIZE + 38, layers: int = 2) -> "LanguageConfig":
        """A model of about 0.3 M parameters for tests and demonstrations, with room for the legacy signal tokens.

        The wide initialisation makes an untrained model's logits differ enough that greedy output does not stick to
        one word.
        """
        return cls(
            "llama",
            {
                "vocab_size": vocab_size,
                "hidden_size": hidden_size,
                "intermediate_size": 2 * hidden_size,
                "num_hidden_layers": layers,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 2048,
                "rms_norm_eps": 1e-5,
                "initializer_range": 0.3,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "tie_word_embeddings": False,
            },
        )

    @classmethod
    def vicuna_7b(cls, vocab_size: int = 32000, rms_norm_eps: float = 1e-5) -> "LanguageConfig":
        """Vicuna-7B v1.5; 32,038 entries with the legacy signal tokens, 32,036 with the current ones."""
        return cls._vicuna(4096, 11008, 32, vocab_size, rms_norm_eps)

    @classmethod
    def vicuna_13b(cls, vocab_size: int = 32000, rms_norm_eps: float = 1e-5) -> "LanguageConfig":
        return cls._vicuna(5120, 13824, 40, vocab_size, rms_norm_eps)

    @classmethod
    def _vicuna(cls, width: int, inner: int, layers: int, vocab_size: int, rms_norm_eps: float) -> "LanguageConfig":
        return cls(
            "llama",
            {
                "vocab_size": vocab_size,
                "hidden_size": width,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": layers,
                "num_key_value_heads": layers,
                "max_position_embeddings": 4096,
                "rms_norm_eps": rms_norm_eps,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "tie_word_embeddings": False,
            },
        )

    def to_json(self) -> dict[str, Any]:
        return {"model_type": self.model_type, "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LanguageConfig":
        return cls(data["model_type"], dict(data["options"]))


class LanguageModel(nn.Module):
    """A causal language model; `causal` is the transformers model, so its keys carry the prefix `causal.`.

    May be built under `torch.device("meta")` and filled with `load_state_dict(..., assign=True)`; `reset_buffers()`
    must follow, because rotary frequencies are in no checkpoint.
    """

    def __init__(self, config: LanguageConfig) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        super().__init__()
        self.config = config
        self.causal: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.model_type, **config.options))
        self.causal.eval()

    @classmethod
    def random(cls, config: LanguageConfig, seed: int) -> "LanguageModel":
        """Untrained weights that depend on nothing but `config` and `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @property
    def hidden_size(self) -> int:
        return int(self.causal.config.get_text_config().hidden_size)

    @property
    def vocab_size(self) -> int:
        return int(self.causal.get_input_embeddings().weight.shape[0])

    @property
    def context_length(self) -> int:
        return int(self.causal.config.get_text_config().max_position_embeddings)

    @property
    def device(self) -> torch.device:
        return self.causal.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.causal.get_input_embeddings().weight.dtype

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Input embeddings `[n, H]` of token ids; raises ValueError for an id the model does not have."""
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(
                f"token id {max(ids)} does not exist in a model of {self.vocab_size} tokens; "
                "the checkpoint and the signal vocabulary do not belong together"
            )
        return self.causal.get_input_embeddings()(torch.tensor(list(ids), dtype=torch.long, device=self.device))

    def reset_buffers(self, device: torch.device | str | None = None) -> None:
        """Recompute in float32 the buffers which no checkpoint holds (rotary frequencies), on the weights' device.

        Raises RuntimeError if something is still on meta afterwards, naming it.
        """
        target = torch.device(device) if device is not None else self.device
        for module in self.causal.modules():
            names = [
                n
                for n, b in module.named_buffers(recurse=False)
                if n in module._non_persistent_buffers_set and b is not None
            ]
            if not names or next(module.parameters(recurse=False), None) is not None:
                continue
            for name in names:
                dtype = torch.float32 if module._buffers[name].is_floating_point() else module._buffers[name].dtype
                module._buffers[name] = torch.zeros(module._buffers[name].shape, dtype=dtype, device=target)
            # transformers' own rule per kind of module; it knows every rotary variant.
            self.causal._init_weights(module)
        self.causal.tie_weights()
        lost = [n for n, t in (*self.named_parameters(), *self.named_buffers()) if t.is_meta]
        if lost:
            raise RuntimeError(
                f"no value for {', '.join(lost[:5])} ({len(lost)} tensors); load the state dict with assign=True first"
            )

    @torch.no_grad()
    def grow_vocabulary(self, vocab_size: int) -> None:
        """Append rows to the input and output embeddings, each the mean of the old ones."""
        old = self.vocab_size
        if vocab_size < old:
            raise ValueError(f"the model has {old} tokens; cutting it to {vocab_size} would lose some")
        self.causal.resize_token_embeddings(vocab_size, mean_resizing=False)
        for layer in (self.causal.get_input_embeddings(), self.causal.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].float().mean(dim=0).to(layer.weight.dtype)
        self.config = LanguageConfig(self.config.model_type, {**self.config.options, "vocab_size": vocab_size})


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
            raise ValueError(f"temperature must not be negative, is {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, is {self.top_p}")
        if self.top_k < 0 or self.repetition_penalty <= 0:
            raise ValueError("top_k must not be negative and repetition_penalty must be above 0")

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
    tokens in `ids`.
    """

    ids: tuple[int, ...]
    hidden: Tensor
    embeds: Tensor
    trace: tuple[RunTrace, ...]
    finished: str
    stop_length: int

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
) -> Generation:
    """Continue a prompt `inputs_embeds [1, P, H]`.

    `on_token(id, position)` is called as each token is settled; `cancelled()` is asked after each token and
    ends the answer with what was said so far. The same seed gives the same answer on the same device; the draw itself
    is made on the CPU. Raises ValueError for a prompt of another shape, one that leaves no room for `max_new_tokens`
    in the context, a vocabulary the model is too small for, or a policy the budget cannot satisfy.
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
    logits, cache = _forward(model, inputs_embeds.to(model.device, model.dtype), None, None)
    finished = None
    while finished is None:
        token = runs.required()
        if token is None:
            allowed = logits.index_fill(
                0, torch.tensor([*options.suppress_ids, *runs.banned()], dtype=torch.long), -torch.inf
            )
            token = choose_token(allowed, options, runs.ids, generator)
        token = runs.take(token, lambda i, row=logits: float(row.softmax(-1)[i]))  # type: ignore[misc]
        if on_token is not None:
            on_token(token, len(runs.ids) - 1)
        finished = runs.finished
        if finished is None and cancelled is not None and cancelled():
            finished = "cancelled"
        # Also after the last token: its state is part of a run that ends with the budget.
        logits, cache = _forward(model, model.embed([token])[None], cache, states)
    return Generation(
        tuple(runs.ids), torch.cat(states), model.embed(runs.ids), tuple(runs.trace), finished, runs.stop_length
    )


def _forward(model: LanguageModel, embeds: Tensor, cache: Any, states: list[Tensor] | None) -> tuple[Tensor, Any]:
    """One pass over new positions `[1, m, H]`: logits `[V]` of the last one (float32, CPU) and the grown cache.

    States are collected only when asked for: a long prompt times every layer would be hundreds of megabytes.
    """
    out = model.causal(
        inputs_embeds=embeds,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        output_hidden_states=states is not None,
    )
    if states is not None:
        states.append(out.hidden_states[-1][0, -1:])
    return out.logits[0, -1].float().cpu(), out.past_key_values
