"""What published files call things -> what our modules call them. Nothing is lost on the way that has not a reason.

Every function takes the tensors of a model's files by key, and gives back those of the model. An entry that no rule
knows stays as it is, so that the loader reports it. What is left out on purpose: rotary tables, which are computed, and
the entries of other parts of NExT-GPT that lie in the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodes.nextgpt.recognise import other_vocabulary

if TYPE_CHECKING:
    from graph_engine.models.spec import ModelSpec

State = Mapping[str, Any]

DELTA = "delta."
"""Prefix of a file whose entries are laid over those of the base: trained embeddings, LoRA."""

INPUT_PREFIXES = ("llama_proj.", "mm_input_projector.")
OUTPUT_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "image": ("gen_text_hidden_fcs.0.", "mm_output_img_projector."),
    "video": ("gen_text_hidden_fcs_video.0.", "mm_output_vid_projector."),
    "audio": ("gen_text_hidden_fcs_audio.0.", "mm_output_aud_projector."),
}
"""The 2023 code's name first, then the 2024 code's; what stands before them ("model.", "base_model.model.") varies."""
_PROJECTORS = (*INPUT_PREFIXES, *(prefix for prefixes in OUTPUT_PREFIXES.values() for prefix in prefixes))

_WRAPPERS = re.compile(r"^(?:llama_model\.|base_model\.model\.|causal\.|(?:model\.)+(?=model\.|lm_head\.))+")
_LANGUAGE = re.compile(
    r"(?:^|\.)(?:embed_tokens|lm_head|model\.norm|layers\.\d+\.(?:self_attn\.\w+|mlp\.\w+|\w+_layernorm))\."
)
_OLD_ATTENTION = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)(?=\.)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def input_projector_state(state: State) -> dict[str, Any]:
    """Entries of the input projector, of either generation's file or of one that holds nothing else."""
    return _projector_state(state, INPUT_PREFIXES)


def output_projector_state(state: State, modality: str) -> dict[str, Any]:
    """Entries of one modality's output projector under canonical names."""
    from nodes.nextgpt.model.output_projector import canonical_state

    return canonical_state(_projector_state(state, OUTPUT_PREFIXES.get(modality, ())))


def _projector_state(state: State, own: tuple[str, ...]) -> dict[str, Any]:
    """Entries after one of `own`, without it. If there are some, other parts of NExT-GPT are left out."""
    chosen = {rest: value for key, value in state.items() if (rest := _after(key, own)) is not None}
    if not chosen:
        return dict(state)
    others = {
        key: value for key, value in state.items() if _after(key, _PROJECTORS) is None and not _LANGUAGE.search(key)
    }
    return chosen | others


def _after(key: str, marks: tuple[str, ...]) -> str | None:
    """What follows one of the marks, which begins the key or comes after a point."""
    for mark in marks:
        at = 0 if key.startswith(mark) else key.find(f".{mark}") + 1
        if at or key.startswith(mark):
            return key[at + len(mark) :]
    return None


def language_model_state(state: State) -> dict[str, Any]:
    """Files of transformers name what we keep under `causal.`; files of NExT-GPT and peft put wrappers before it.

    Entries of a delta keep their mark, `delta.causal.model...`, for `fold_language_model`.
    """
    named: dict[str, Any] = {}
    for key, value in state.items():
        if key.endswith("rotary_emb.inv_freq") or _after(key, _PROJECTORS) is not None:
            continue
        mark = DELTA if key.startswith(DELTA) else ""
        bare = _WRAPPERS.sub("", key.removeprefix(DELTA)).replace(".base_layer.", ".")
        renamed = f"{mark}causal.{bare}"
        if renamed in named:
            raise ValueError(
                f"{renamed} is there twice under different names; give the files of one training, not of several"
            )
        named[renamed] = value
    return named


def fold_language_model(state: State, spec: ModelSpec) -> dict[str, Any]:
    """Lay the delta over the base, and fold its LoRA: rank and alpha are `spec.extras["lora"]`.

    Raises ValueError for the vocabulary of another preset or base, and as `fold_lora`.
    """
    from nodes.nextgpt.model.fold_lora import fold_lora, lora_rank

    merged = {key: value for key, value in state.items() if not key.startswith(DELTA)}
    merged |= {key.removeprefix(DELTA): value for key, value in state.items() if key.startswith(DELTA)}
    want = spec.config.get("options", {}).get("vocab_size", 0)
    for key in ("causal.model.embed_tokens.weight", "causal.lm_head.weight"):
        have = merged[key].shape[0] if key in merged else want
        if have != spec.config.get("grown_from") and (reason := other_vocabulary(want, have)):
            raise ValueError(reason)
    rank = lora_rank(merged)
    if not rank:
        return merged
    import torch

    facts = spec.extras.get("lora")
    if facts is None:
        raise ValueError(
            f"it holds a LoRA of rank {rank}, and nothing says its alpha; put the adapter_config.json of peft beside it"
        )
    return fold_lora(merged, facts["rank"], facts["alpha"], getattr(torch, spec.dtype))


def decoder_state(state: State) -> dict[str, Any]:
    """diffusers before 0.17 named the attention of an autoencoder otherwise."""
    return {
        _OLD_ATTENTION.sub(lambda match: f"{match[1]}.{_NEW_ATTENTION[match[2]]}", key): value
        for key, value in state.items()
    }
