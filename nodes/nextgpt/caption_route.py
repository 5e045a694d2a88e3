"""Captions: words become a decoder's condition by the text encoder that the decoder was trained with.

Signals were trained to imitate these conditions, so they serve as a fallback (the caption route). The encoding of "" is
the negative condition of the original pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from graph_engine import Conditioning, Needs, NodeContext, NodeError, Signals, Widget, node
from graph_engine.errors import ModelError
from nodes.nextgpt.kinds import TextEncoder
from nodes.nextgpt.load import CATEGORY as LOADERS
from nodes.nextgpt.load import VERSION, Spoken, lease
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.preset import PresetName, files_of

if TYPE_CHECKING:
    from nodes.nextgpt.model.caption_tokens import Tokenise

CATEGORY = "NExT-GPT/stages"


def reads(literals: Mapping[str, Any]) -> list[str]:
    """Every weight file of the preset, as the other load nodes say."""
    return files_of(str(literals.get("preset", "")))


@node(id="nextgpt.load_text_encoder", version=VERSION, category=LOADERS, reads=reads)
def load_text_encoder(context: NodeContext, preset: PresetName = "mini", modality: Spoken = "image") -> TextEncoder:
    """The text encoder of one modality's decoder: for captions instead of signals, and for negative conditions."""
    from nodes.nextgpt.checkpoint import find_preset, specs_of

    if f"{modality}_text_encoder" not in find_preset(preset).parts:
        raise ModelError(
            f"the preset {preset!r} has no text encoder for {modality}.",
            remedy="Choose another preset, or drive the decoder by its signals.",
            code="no_text_encoder",
        )
    return next(iter(specs_of(preset, [f"{modality}_text_encoder"], context.models_dir)))


@node(id="nextgpt.encode_caption", category=CATEGORY, needs=Needs(device=True))
def encode_caption(
    context: NodeContext, text_encoder: TextEncoder, text: Annotated[str, Widget(multiline=True)] = ""
) -> Conditioning:
    """Words to CONDITIONING in the decoder's own shape; of no words, the negative condition of the original pipelines.

    "1 77 768" (or 1024) for a picture, "1 77 1024" for a video, "1 1 512" of unit length for a sound. Words beyond the
    encoder's 77 (512) tokens are cut off, which the log says.
    """
    return [[condition_of(context, text, text_encoder), {"modality": _modality(text_encoder), "caption": text}]]


@node(id="nextgpt.caption_route", category=CATEGORY, needs=Needs(device=True))
def caption_route(context: NodeContext, signals: Signals, text_encoder: TextEncoder) -> Conditioning:
    """Takes the place of `nextgpt.project_out`: the words before the signals become the condition, not their states.

    For a decoder whose output projector is missing or weak. One condition per item, in spoken order; items without words
    of their own have the words of the item before them.
    """
    if (SPOKEN[signals["modality"]].condition[0] > 1) != (text_encoder.config["kind"] == "clip"):
        raise NodeError(
            f"the signals are for {signals['modality']}, the text encoder for {_modality(text_encoder)}.",
            remedy=f"Link the text encoder of {signals['modality']}.",
            code="wrong_modality",
            port="text_encoder",
        )
    if "caption" not in signals:
        raise NodeError(
            "the signals say no words: they come from no answer of the language model.",
            remedy="Link an output of nextgpt.route, or use nextgpt.encode_caption with a text.",
            code="no_caption",
            port="signals",
        )
    if not signals["caption"]:
        context.log(f"no words stand before this {SPOKEN[signals['modality']].noun}; it is made of an empty caption")
    condition = condition_of(context, signals["caption"], text_encoder)
    facts = {"modality": signals["modality"], "order": signals["order"], "caption": signals["caption"]}
    return [[condition, facts]]


def condition_of(context: NodeContext, text: str, text_encoder: Any) -> Any:
    """The condition "1 rows width" of a text, on the CPU."""
    kind, length = text_encoder.config["kind"], text_encoder.config["length"]
    name = text_encoder.extras.get("tokenizer", "tiny")
    tokens = tokeniser(name, context.models_dir, kind, length)(text)
    if tokens.dropped:
        context.log(f"the caption is cut off after {length - 2} tokens; {tokens.dropped} more did not fit")
    return lease(context, text_encoder)(tokens.ids).float().cpu()


def _modality(text_encoder: Any) -> str:
    return text_encoder.extras.get("modality", "image" if text_encoder.config["kind"] == "clip" else "audio")


@lru_cache(maxsize=8)
def tokeniser(name: str, models_dir: Path, kind: str, length: int) -> Tokenise:
    """By the vocabulary that ships under this name, or in that folder; reading one takes a while, so it is kept."""
    from nodes.nextgpt.model.caption_tokens import folder_tokens, shipped_tokens
    from nodes.nextgpt.model.tokenizer import Tokenizer, TokenizerError

    shipped = Tokenizer.shipped(name)
    if shipped is not None:
        return shipped_tokens(shipped, kind, length)
    folder = models_dir / name
    try:
        return folder_tokens(folder, kind, length)
    except TokenizerError as error:
        raise ModelError(
            f"the tokenizer of the text encoder is not there: {error}.",
            remedy=f"Copy the files of the published decoder's folder `tokenizer` into {folder}.",
            code="tokenizer_missing",
        ) from error
