"""The language model of NExT-GPT: a wrapper over any causal language model of transformers (Llama for the presets).

Shapes: H is the hidden size, V the vocabulary, n a number of tokens.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

# Tokens of the shipped tiny vocabulary (a test compares it with the file); the signal tokens of `tiny()` follow them.
TINY_BASE_SIZE = 1947
PREFIX = "causal."
"""What the keys of a `LanguageModel` begin with; the rest is as transformers names it."""


@dataclass(frozen=True)
class LanguageConfig:
    """What to build: a transformers `model_type` and the options of its configuration class.

    options      at least `vocab_size`, signal tokens included
    grown_from   rows of the vocabulary in the weight files, where they are fewer: the rest are means (`fitted`)
    weights      "full", "int8" or "int4" (`quantise.py`)
    folded       adapters that become part of the weights: {"settings", "file", "strength"} each (`lora.py`)
    """

    model_type: str = "llama"
    options: Mapping[str, Any] = field(default_factory=dict)
    grown_from: int | None = None
    weights: str = "full"
    folded: tuple[Mapping[str, Any], ...] = ()

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
    def vicuna_7b(cls, vocab_size: int = 32000, rms_norm_eps: float = 1e-5, context: int = 4096) -> "LanguageConfig":
        """Vicuna-7B v1.5; 32,038 entries with the legacy signal tokens, 32,036 with the current ones."""
        return cls._vicuna(4096, 11008, 32, vocab_size, rms_norm_eps, context)

    @classmethod
    def vicuna_7b_v0(cls, vocab_size: int = 32000) -> "LanguageConfig":
        """Vicuna-7B v0, a LLaMA-1: another epsilon and half the context."""
        return cls.vicuna_7b(vocab_size, 1e-6, 2048)

    @classmethod
    def vicuna_13b(cls, vocab_size: int = 32000, rms_norm_eps: float = 1e-5, context: int = 4096) -> "LanguageConfig":
        return cls._vicuna(5120, 13824, 40, vocab_size, rms_norm_eps, context)

    @classmethod
    def _vicuna(
        cls, width: int, inner: int, layers: int, vocab_size: int, rms_norm_eps: float, context: int
    ) -> "LanguageConfig":
        return cls(
            "llama",
            {
                "vocab_size": vocab_size,
                "hidden_size": width,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": layers,
                "num_key_value_heads": layers,
                "max_position_embeddings": context,
                "rms_norm_eps": rms_norm_eps,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "tie_word_embeddings": False,
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the defaults, so that the key of a plain model does not depend on the rest."""
        data: dict[str, Any] = {"model_type": self.model_type, "options": dict(self.options)}
        if self.grown_from is not None:
            data["grown_from"] = self.grown_from
        if self.weights != "full":
            data["weights"] = self.weights
        if self.folded:
            data["folded"] = [dict(entry) for entry in self.folded]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LanguageConfig":
        return cls(
            data["model_type"],
            dict(data["options"]),
            data.get("grown_from"),
            data.get("weights", "full"),
            tuple(data.get("folded", ())),
        )

    def of_files(self) -> "LanguageConfig":
        """The model that the weight files alone would be."""
        if self.grown_from is None:
            return self
        return replace(self, options={**self.options, "vocab_size": self.grown_from}, grown_from=None)

    def transformers_config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.for_model(self.model_type, **self.options)


class LanguageModel(nn.Module):
    """A causal language model; `causal` is the transformers model, so its keys carry the prefix `causal.`.

    May be built under `torch.device("meta")` and filled with `load_state_dict(..., assign=True)`; `complete()` must
    follow, because rotary frequencies are in no checkpoint.
    """

    def __init__(self, config: LanguageConfig) -> None:
        from transformers import AutoModelForCausalLM

        super().__init__()
        self.config = config
        self.causal: Any = AutoModelForCausalLM.from_config(config.transformers_config())
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
        """The most tokens it was made for; without end where its positions are not counted (ALiBi)."""
        found = getattr(self.causal.config.get_text_config(), "max_position_embeddings", None)
        return sys.maxsize if found is None else int(found)

    @cached_property
    def last_logits_only(self) -> dict[str, int]:
        """The argument that spares the logits of a long prompt, where the architecture knows it."""
        known = "logits_to_keep" in inspect.signature(type(self.causal).forward).parameters
        return {"logits_to_keep": 1} if known else {}

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

    def complete(self) -> None:
        """What follows once the weights are in place: buffers, adapters to be folded, quantisation."""
        self.reset_buffers()
        for entry in self.config.folded:
            from safetensors.torch import load_file

            from .lora import Adapter, fold

            fold(self, Adapter(entry["settings"], load_file(entry["file"]["path"]), entry["strength"]))
        if self.config.weights != "full":
            from .quantise import quantise

            quantise(self.causal, self.config.weights)

    @torch.no_grad()
    def grow_vocabulary(self, vocab_size: int) -> None:
        """Append rows to the input and output embeddings, each the mean of the old ones."""
        old = self.vocab_size
        if vocab_size < old:
            raise ValueError(f"the model has {old} tokens; cutting it to {vocab_size} would lose some")
        self.causal.resize_token_embeddings(vocab_size, mean_resizing=False)
        for layer in (self.causal.get_input_embeddings(), self.causal.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].float().mean(dim=0).to(layer.weight.dtype)
        self.config = replace(self.config, options={**self.config.options, "vocab_size": vocab_size})
