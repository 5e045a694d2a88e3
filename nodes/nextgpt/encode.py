"""Encode: one medium into ImageBind's embedding space. One node per modality, all of them one function."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from graph_engine import Audio, Embedding, Encoder, Image, Json, Needs, NodeContext, NodeError, Video, Widget, node
from graph_engine.graph.kinds import describe
from nodes.nextgpt.families import trunk_family
from nodes.nextgpt.load import lease
from nodes.nextgpt.modality import MODALITIES
from nodes.nextgpt.refusal import refusals

CATEGORY = "NExT-GPT/encode"
DEVICE = Needs(device=True)
Form = Literal["auto", "global", "patch"]
Scale = Literal["auto", "yes", "no"]


@node(id="nextgpt.encode_image", category=CATEGORY, needs=DEVICE)
def encode_image(context: NodeContext, image: Image, encoder: Encoder, form: Form = "auto") -> Embedding:
    """Pictures "B H W C" to embeddings "B N D": cut to a centre square of 224 pixels, one row or 256 patches each.

    form: `global` is one vector per picture (2023 weights), `patch` one per patch (2024 code), `auto` what the preset
    was made for.
    """
    return embed(context, "image", image, encoder, form)


@node(id="nextgpt.encode_video", category=CATEGORY, needs=DEVICE)
def encode_video(context: NodeContext, video: Video, encoder: Encoder, form: Form = "auto") -> Embedding:
    """A video to an embedding "1 N D": five clips of 2 s, three crops of each, averaged. Sound is not heard here."""
    return embed(context, "video", video, encoder, form)


@node(id="nextgpt.encode_audio", category=CATEGORY, needs=DEVICE)
def encode_audio(
    context: NodeContext, audio: Audio, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Sounds "B C T" to embeddings "B N D": three clips of 2 s as mel spectrograms, averaged; one row or 228 patches.

    scaled: times the trunk's logit scale (20), which NExT-GPT leaves out.
    """
    return embed(context, "audio", audio, encoder, form, scaled)


@node(id="nextgpt.encode_text", category=CATEGORY, needs=DEVICE)
def encode_text(
    context: NodeContext, text: Annotated[str, Widget(multiline=True)], encoder: Encoder, scaled: Scale = "auto"
) -> Embedding:
    """A text to an embedding "1 1 D" in the space of pictures and sounds; beyond 77 tokens it is cut."""
    from nodes.nextgpt.model.preprocess import pad_text_ids
    from nodes.nextgpt.words import tokenizer_of

    tokenizer = tokenizer_of(encoder.extras, context.models_dir)
    # ImageBind finds the end of a text by its largest id: CLIP's vocabulary has it last, the tiny one has it added.
    end = encoder.config["text_vocabulary"] - 1
    ids = pad_text_ids([[tokenizer.bos_id, *tokenizer.encode(text)]], end, encoder.config["text_length"])
    return embed(context, "text", ids, encoder, "global", scaled)


@node(id="nextgpt.encode_depth", category=CATEGORY, needs=DEVICE)
def encode_depth(
    context: NodeContext, depth: Image, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Depth maps "B H W C" to embeddings "B N D"; colours are averaged to one channel, values are taken as they are."""
    grey = depth[..., :3].mean(dim=-1, keepdim=True)
    return embed(context, "depth", grey, encoder, form, scaled)


@node(id="nextgpt.encode_thermal", category=CATEGORY, needs=DEVICE)
def encode_thermal(
    context: NodeContext, thermal: Image, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Pictures of a thermal camera "B H W C" to embeddings "B N D"; the brightness is read."""
    return embed(context, "thermal", thermal, encoder, form, scaled)


@node(id="nextgpt.encode_imu", category=CATEGORY, needs=DEVICE)
def encode_imu(
    context: NodeContext, recording: Json, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Motion recordings to embeddings "B N D".

    recording: JSON lists "6 2000" or "B 6 2000" of numbers: accelerometer x y z, gyroscope x y z, 2,000 samples each.
    """
    import torch

    try:
        tensor = torch.as_tensor(recording, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NodeError(
            f"the recording is no table of numbers: {describe(recording)}.",
            remedy="Give six lists of 2,000 numbers each.",
            code="bad_recording",
            port="recording",
        ) from error
    return embed(context, "imu", tensor[None] if tensor.ndim == 2 else tensor, encoder, form, scaled)


def embed(
    context: NodeContext, modality: str, value: Any, encoder: Any, form: str = "auto", scaled: str = "auto"
) -> dict[str, Any]:
    """EMBEDDING of one medium by the trunk of its modality. Raises NodeError for what the trunk cannot read."""
    from nodes.nextgpt.model.imagebind_config import ImageBindConfig
    from nodes.nextgpt.model.preprocess import preprocess

    row = MODALITIES[modality]
    kind = encoder.extras.get("form", "global") if form == "auto" else form
    scale = row.scaled if scaled == "auto" else scaled == "yes"
    config = ImageBindConfig.from_dict(encoder.config)
    if row.trunk not in config.modalities:
        raise NodeError(
            f"the encoder cannot encode {modality}: it has the trunks {', '.join(config.modalities)}, not {row.trunk}.",
            remedy="Load an encoder that has it.",
            code="no_trunk",
            port="encoder",
        )
    with refusals("bad_medium", modality if modality != "imu" else "recording"):
        tensor = preprocess(row.like, value, config)
    context.check()
    module = lease(context, replace(encoder, family=trunk_family(row.trunk), config=_only(encoder.config, row.trunk)))
    with refusals("bad_medium", modality):
        rows = module.encode(row.trunk, tensor.to(context.device), kind=kind, scale=scale)
    shape = "global" if modality == "text" else kind
    return {"tensor": rows.float().cpu(), "modality": modality, "form": shape, "scaled": scale}


def _only(config: Any, trunk: str) -> dict[str, Any]:
    return {**config, "modalities": [trunk]}
