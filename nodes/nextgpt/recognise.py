"""What a weight file looks like, by its keys and shapes; and why the files of a model are not the ones it wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

State = Mapping[str, Any]
"""Anything with a `shape`, by key."""

VOCABULARIES: Mapping[int, str] = {
    32_000: "a plain Vicuna or Llama, without NExT-GPT's signal tokens",
    32_001: "Vicuna v0 as first published, with a padding token of its own, without NExT-GPT's signal tokens",
    32_036: "NExT-GPT's 2024 code on Vicuna v1.5 (36 signal tokens)",
    32_038: "NExT-GPT's 2023 weights on Vicuna v0 (36 signal tokens, <Img> and </Img>)",
    32_042: "the 2023 code on a base whose tokenizer has 32,004 tokens, which is not Vicuna v0",
}
"""Rows of the embedding -> which model has so many (NExT-GPT issues 24 and 47)."""

WIDTHS: Mapping[int, str] = {
    512: "AudioLDM",
    768: "Stable Diffusion 1.5",
    1024: "Stable Diffusion 2 or Zeroscope",
}
"""Width of an output projector -> which decoder takes it."""


def looks_like(state: State) -> str:
    """ "a Stable Diffusion autoencoder (VAE)", or "" for what this table does not know."""
    return next((text for describe in _LOOKS if (text := describe(state))), "")


def explain(expected: State, found: State, files: Mapping[str, State]) -> tuple[str, str] | None:
    """Reason and remedy for a model whose files do not fit, as `Family.explain` wants it."""
    for reading in (_condition, _trunks):
        told = reading(expected, found, files)
        if told is not None:
            return told
    if found.keys() == expected.keys():
        return (
            "The names are right, the sizes are another model's.",
            "Take the model of the size that the preset names.",
        )
    looks = [f"{PurePath(path).name} looks like {look}" for path, state in files.items() if (look := looks_like(state))]
    if not looks:
        return None
    return f"{'; '.join(looks)}.", "Put the file of this part there; `anyloom models` says which file belongs where."


def other_vocabulary(want: int, have: int) -> str:
    """Why a language model of `have` tokens is not the preset's of `want`, and what to do: "reason; remedy".

    "" where they are equal, or where this table knows nothing of `want`.
    """
    if want == have or want not in VOCABULARIES:
        return ""
    remedy = "take the base model that the preset was trained on, Vicuna v0 for nextgpt-7b-tiva-v0"
    if have in (32_000, 32_001):
        remedy = (
            "add what NExT-GPT trained, the embed_tokens and lm_head of its delta "
            "(`anyloom convert pytorch_model.pt --preset nextgpt-7b-tiva-v0`)"
        )
    elif {want, have} == {32_036, 32_038}:
        remedy = "the file belongs to the other preset, nextgpt-7b-tiva-v0 or nextgpt-v1.5-7b"
    return (
        f"the vocabularies differ: the preset has {want:,} tokens ({VOCABULARIES[want]}), "
        f"the files have {have:,} ({VOCABULARIES.get(have, 'another base model')}); {remedy}"
    )


# --- readings of a mismatch -------------------------------------------------------------------------------------------


def _condition(expected: State, found: State, files: Mapping[str, State]) -> tuple[str, str] | None:
    """Output projectors of 768, 1024 and 512 have the same names."""
    if "out_fc.weight" not in expected or "out_fc.weight" not in found:
        return None
    want, have = expected["out_fc.weight"].shape[0], found["out_fc.weight"].shape[0]
    if want == have:
        return None
    return (
        f"The output projector gives conditions of width {have} (for {WIDTHS.get(have, 'another decoder')}), this decoder "
        f"takes {want} ({WIDTHS.get(want, 'of another kind')}).",
        "Take the projector that was trained for this decoder, or choose the preset that it belongs to.",
    )


def _trunks(expected: State, found: State, files: Mapping[str, State]) -> tuple[str, str] | None:
    wanted, there = _trunks_of(expected), {trunk for state in files.values() for trunk in _trunks_of(state)}
    lacking = sorted(wanted - there)
    if not lacking or not there:
        return None
    return (
        f"The file has no trunk {', '.join(lacking)}; it has {', '.join(sorted(there))}.",
        "Take the whole imagebind_huge.pth, or use only what the file can encode.",
    )


def _trunks_of(state: State) -> set[str]:
    return {key.split(".")[1] for key in state if key.startswith("modality_trunks.")}


# --- looks ------------------------------------------------------------------------------------------------------------


def _imagebind(state: State) -> str:
    trunks = sorted(_trunks_of(state))
    return f"ImageBind with the trunks {', '.join(trunks)}" if trunks else ""


def _delta(state: State) -> str:
    both = _any(state, "llama_proj.") and _any(state, "gen_text_hidden_fcs")
    return "NExT-GPT's 2023 delta (pytorch_model.pt), which `anyloom convert` takes apart" if both else ""


def _projectors(state: State) -> str:
    for mark, text in {
        "llama_proj.": "NExT-GPT's 2023 input projector",
        "gen_text_hidden_fcs_video.": "NExT-GPT's 2023 output projector for video",
        "gen_text_hidden_fcs_audio.": "NExT-GPT's 2023 output projector for audio",
        "gen_text_hidden_fcs.": "NExT-GPT's 2023 output projector for images",
        "mm_input_projector.": "NExT-GPT's 2024 input projector",
        "mm_output_": "NExT-GPT's 2024 output projectors",
    }.items():
        if _any(state, mark):
            return text
    if "query_embs" in state and len(state["query_embs"].shape) == 3:
        return f"an output projector with {state['query_embs'].shape[1]} queries"
    if any(key.endswith("downsample.assign.proj.weight") or key.endswith("group_token") for key in state):
        return "a group input projector"
    if state.keys() == {"weight", "bias"} and len(state["weight"].shape) == 2:
        out, width = state["weight"].shape
        return f"one linear layer from {width} to {out}"
    return ""


def _lora(state: State) -> str:
    ranks = {value.shape[0] for key, value in state.items() if ".lora_A." in key}
    return f"a LoRA adapter of rank {', '.join(map(str, sorted(ranks)))}" if ranks else ""


def _single_file(state: State) -> str:
    return "a single-file Stable Diffusion checkpoint" if _any(state, "model.diffusion_model.") else ""


def _language(state: State) -> str:
    embedding = next((value for key, value in state.items() if key.endswith("embed_tokens.weight")), None)
    if embedding is None:
        return ""
    layers = {match[1] for key in state if (match := re.search(r"\blayers\.(\d+)\.", key))}
    return f"a language model of {embedding.shape[0]:,} tokens, width {embedding.shape[1]}, {len(layers)} layers"


def _vocoder(state: State) -> str:
    return "a HiFi-GAN vocoder" if "conv_pre.weight" in state and "conv_post.weight" in state else ""


def _autoencoder(state: State) -> str:
    if "encoder.conv_in.weight" not in state or "decoder.conv_out.weight" not in state:
        return ""
    heard = state["encoder.conv_in.weight"].shape[1] == 1
    return "an AudioLDM autoencoder (VAE)" if heard else "a Stable Diffusion autoencoder (an SD VAE)"


def _denoiser(state: State) -> str:
    if "conv_in.weight" not in state or "time_embedding.linear_1.weight" not in state:
        return ""
    if any(".temp_convs." in key for key in state):
        return "a video denoiser (UNet)"
    if "class_embedding.weight" in state or "class_embedding.linear_1.weight" in state:
        return "an AudioLDM denoiser (UNet)"
    width = next((value.shape[1] for key, value in state.items() if key.endswith("attn2.to_k.weight")), 0)
    return f"an image denoiser (UNet) for conditions of width {width} ({WIDTHS.get(width, 'of another model')})"


def _text_encoder(state: State) -> str:
    if "text_projection.linear1.weight" in state:
        return "a CLAP text encoder"
    table = next((v for key, v in state.items() if key.endswith("embeddings.token_embedding.weight")), None)
    return f"a CLIP text encoder of width {table.shape[1]}" if table is not None else ""


def _any(state: State, mark: str) -> bool:
    return any(mark in key for key in state)


_LOOKS: tuple[Callable[[State], str], ...] = (
    _imagebind, _delta, _single_file, _lora, _language, _projectors, _vocoder, _autoencoder, _denoiser, _text_encoder,
)  # fmt: skip
