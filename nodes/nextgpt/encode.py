"""Encode: one medium into the encoder's embedding space. One node per modality, all of them one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from graph_engine import Audio, Embedding, Encoder, Image, Json, Needs, NodeContext, NodeError, Video, Widget, node
from graph_engine.graph.kinds import describe
from nodes.nextgpt.families import VISION_TOWER, trunk_family
from nodes.nextgpt.load import lease
from nodes.nextgpt.modality import MODALITIES
from nodes.nextgpt.preset import VOCABULARIES
from nodes.nextgpt.refusal import refusals
from nodes.nextgpt.working import reading

if TYPE_CHECKING:
    from nodes.nextgpt.model.clip_tokenizer import ClipTokenizer

CATEGORY = "NExT-GPT/encode"
Form = Literal["auto", "global", "patch"]
Scale = Literal["auto", "yes", "no"]
Clips = Literal["averaged", "in order"]


def _needs(modality: str) -> Needs:
    """Of an encoder only the trunk that reads this modality takes memory."""
    return Needs(
        device=True,
        working_bytes=reading(modality),
        models=lambda values: [_reader(values["encoder"], modality)[2]],
    )


@node(id="nextgpt.encode_image", version="1.1.0", category=CATEGORY, needs=_needs("image"))
def encode_image(context: NodeContext, image: Image, encoder: Encoder, form: Form = "auto") -> Embedding:
    """Pictures "B H W C" to embeddings "B N D": cut to a centre square of 224 pixels, one row or 256 patches each.

    form: `global` is one vector per picture (2023 weights), `patch` one per patch (2024 code), `auto` what the preset
    was made for. A vision tower has a size and a number of patches of its own.
    """
    return embed(context, "image", image, encoder, form)


@node(id="nextgpt.encode_video", version="1.1.0", category=CATEGORY, needs=_needs("video"))
def encode_video(
    context: NodeContext, video: Video, encoder: Encoder, form: Form = "auto", clips: Clips = "averaged"
) -> Embedding:
    """A video to an embedding "1 N D": five clips of 2 s, three crops of each, averaged. Sound is not heard here.

    clips: `averaged` is what the weights were trained with, but has no before and after; `in order` gives the N rows of
    each clip, one clip after the other. A vision tower sees whole frames, not crops.
    """
    return embed(context, "video", video, encoder, form, clips=clips)


@node(id="nextgpt.encode_audio", version="1.1.0", category=CATEGORY, needs=_needs("audio"))
def encode_audio(
    context: NodeContext,
    audio: Audio,
    encoder: Encoder,
    form: Form = "auto",
    scaled: Scale = "auto",
    clips: Clips = "averaged",
) -> Embedding:
    """Sounds "B C T" to embeddings "B N D": three clips of 2 s as mel spectrograms, averaged; one row or 228 patches.

    Only the first channel is heard. scaled: times the trunk's logit scale (20), which NExT-GPT leaves out. clips: `in
    order` gives the rows of each clip, one clip after the other.
    """
    return embed(context, "audio", audio, encoder, form, scaled, clips)


@node(id="nextgpt.encode_text", version="1.1.0", category=CATEGORY, needs=_needs("text"))
def encode_text(
    context: NodeContext, text: Annotated[str, Widget(multiline=True)], encoder: Encoder, scaled: Scale = "auto"
) -> Embedding:
    """A text to an embedding "1 1 D" in the space of pictures and sounds; beyond 77 tokens it is cut."""
    _reader(encoder, "text")
    return embed(context, "text", _text_ids(text, encoder, context.models_dir), encoder, "global", scaled)


@node(id="nextgpt.encode_depth", version="1.1.0", category=CATEGORY, needs=_needs("depth"))
def encode_depth(
    context: NodeContext, depth: Image, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Depth maps "B H W C" to embeddings "B N D"; colours are averaged to one channel, values are taken as they are."""
    grey = depth[..., :3].mean(dim=-1, keepdim=True) if depth.shape[-1] in (3, 4) else depth
    return embed(context, "depth", grey, encoder, form, scaled)


@node(id="nextgpt.encode_thermal", version="1.1.0", category=CATEGORY, needs=_needs("thermal"))
def encode_thermal(
    context: NodeContext, thermal: Image, encoder: Encoder, form: Form = "auto", scaled: Scale = "auto"
) -> Embedding:
    """Pictures of a thermal camera "B H W C" to embeddings "B N D"; the brightness is read."""
    return embed(context, "thermal", thermal, encoder, form, scaled)


@node(id="nextgpt.encode_imu", category=CATEGORY, needs=_needs("imu"))
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
    context: NodeContext,
    modality: str,
    value: Any,
    encoder: Any,
    form: str = "auto",
    scaled: str = "auto",
    clips: str = "averaged",
) -> dict[str, Any]:
    """EMBEDDING of one medium by the trunk of its modality. Raises NodeError for what the trunk cannot read."""
    from nodes.nextgpt.model.preprocess import CLIPS

    row, port = MODALITIES[modality], "recording" if modality == "imu" else modality
    kind = encoder.extras.get("form", "global") if form == "auto" else form
    config, prepare, spec = _reader(encoder, modality)
    scale = encoder.family != VISION_TOWER and (row.scaled if scaled == "auto" else scaled == "yes")
    with refusals("bad_medium", port):
        tensor = prepare(row.like, value, config)
    context.check()
    module = lease(context, spec)
    apart = CLIPS.get(row.like, 1) if clips == "in order" else 1
    with refusals("bad_medium", port):
        rows = module.encode(row.trunk, tensor.to(context.device), kind=kind, scale=scale, apart=apart)
    shape = "global" if modality == "text" else kind
    return {"tensor": rows.float().cpu(), "modality": modality, "form": shape, "scaled": scale}


def _reader(encoder: Any, modality: str) -> tuple[Any, Callable[[str, Any, Any], Any], Any]:
    """Sizes of the encoder, its preparation of media, and the spec of the part that reads this modality."""
    from nodes.nextgpt.model import imagebind_config, preprocess, vision_tower

    trunk = MODALITIES[modality].trunk
    config: Any
    prepare: Callable[[str, Any, Any], Any]
    if encoder.family == VISION_TOWER:
        config, prepare = vision_tower.TowerConfig.from_dict(encoder.config), vision_tower.preprocess
        part = encoder
    else:
        config, prepare = imagebind_config.ImageBindConfig.from_dict(encoder.config), preprocess.preprocess
        part = replace(encoder, family=trunk_family(trunk), config={**encoder.config, "modalities": [trunk]})
    if trunk not in config.modalities:
        raise NodeError(
            f"the encoder cannot encode {modality}: it has the trunks {', '.join(config.modalities)}, not {trunk}.",
            remedy="Load an encoder that has it: nextgpt.load_encoder gives ImageBind, which has all six.",
            code="no_trunk",
            port="encoder",
        )
    return config, prepare, part


def _text_ids(text: str, encoder: Any, models_dir: Path) -> Any:
    """Ids "1 77" in the vocabulary of the encoder: CLIP's in a folder under the models folder, or one that ships."""
    from nodes.nextgpt.model.preprocess import pad_text_ids
    from nodes.nextgpt.words import tokenizer_of

    name, length = encoder.extras.get("tokenizer", "tiny"), encoder.config["text_length"]
    # ImageBind finds the end of a text by its largest id: CLIP's vocabulary has it last, those that ship have it added.
    end = encoder.config["text_vocabulary"] - 1
    if name in VOCABULARIES:
        own = tokenizer_of(encoder.extras, models_dir)
        return pad_text_ids([[own.bos_id, *own.encode(text)]], end, length)
    folder = models_dir / name
    with refusals("tokenizer_missing", "encoder"):
        changes = [file.stat().st_mtime_ns for file in folder.glob("*") if file.is_file()]
        tokenizer = _clip_tokenizer(folder, max(changes, default=0))
    if tokenizer.end_id != end:
        raise NodeError(
            f"the vocabulary in {folder} has {tokenizer.end_id + 1} entries, the text trunk {end + 1}.",
            remedy="Put the vocabulary there that belongs to the encoder's weights.",
            code="wrong_vocabulary",
            port="encoder",
        )
    return pad_text_ids([tokenizer.encode(text)], end, length)


@lru_cache(maxsize=1)
def _clip_tokenizer(folder: Path, changed_ns: int) -> ClipTokenizer:
    """Kept until a file of the folder changes, because reading the vocabulary takes a third of a second."""
    from nodes.nextgpt.model.clip_tokenizer import ClipTokenizer

    return ClipTokenizer.from_folder(folder)
