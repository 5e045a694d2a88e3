"""Presets: which models belong together, as data. Sizes are worked out when asked for, because that imports torch.

A preset's weights are looked for as `FOLDER/PART.safetensors` under the models folder. The `tiny` presets are the same
classes in small, with random weights that are made on first use (`checkpoint.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from nodes.nextgpt import mini
from nodes.nextgpt.families import ENCODER, INPUT_PROJECTOR, LANGUAGE_MODEL, TEXT_ENCODER
from nodes.nextgpt.modality import SPOKEN, Modality

PresetName = Literal["tiny", "tiny-v1.5", "mini", "nextgpt-7b-tiva-v0", "nextgpt-v1.5-7b"]

RECIPE = 2
"""Goes up when the random weights of the tiny presets have to change; files of an older recipe are made again."""

_WORDS = "only for conditions made of words (nextgpt.encode_caption, caption_route, negatives)"
OPTIONAL: Mapping[str, str] = {
    "video_upscaler": "only for nextgpt.upscale_video",
    "image_text_encoder": _WORDS,
    "video_text_encoder": _WORDS,
    "audio_text_encoder": _WORDS,
}
"""Parts that a preset does without, each with what it is needed for."""

VOCABULARIES = frozenset({"tiny", "mini"})
"""Tokenizers that ship; any other name is a folder under the models folder."""

TINY_HIDDEN = 64
TINY_WIDTH = 32
"""Widths of the tiny language model and of the tiny encoder's embedding."""


@dataclass(frozen=True)
class Part:
    """One model of a preset.

    family   row of the model catalog
    config   its sizes as JSON
    folder   where `PART.safetensors` lies under the models folder
    extras   facts that nodes want to know of it (see `ModelSpec.extras`)
    """

    family: str
    config: Callable[[], Mapping[str, Any]]
    folder: str
    dtype: str = "float32"
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """Where its weights come from: made, random ones and made here; trained, by a recipe that begins with nothing and ships
    (`workflows/train/NAME.json`); else from files that a person puts there."""

    name: str
    parts: Mapping[str, Part]
    made: bool = False
    trained: bool = False


def _tiny_text_vocabulary() -> int:
    """The tiny tokenizer's entries and one more for the end of a text, which ImageBind wants to be the largest."""
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return Tokenizer.tiny().size + 1


def _tiny_encoder() -> Mapping[str, Any]:
    from nodes.nextgpt.model.imagebind_config import ImageBindConfig

    return {**ImageBindConfig.tiny().to_dict(), "text_vocabulary": _tiny_text_vocabulary()}


def _huge_encoder() -> Mapping[str, Any]:
    from nodes.nextgpt.model.imagebind_config import ImageBindConfig

    return ImageBindConfig.huge().to_dict()


def _tiny_input_projector(mode: str) -> Mapping[str, Any]:
    from nodes.nextgpt.model.input_projector import InputProjectorConfig

    return InputProjectorConfig.tiny(mode, in_dim=TINY_WIDTH, out_dim=TINY_HIDDEN).to_dict()


def _input_projector(mode: str) -> Mapping[str, Any]:
    from nodes.nextgpt.model.input_projector import InputProjectorConfig

    return InputProjectorConfig(mode).to_dict()


def _tiny_language_model() -> Mapping[str, Any]:
    from nodes.nextgpt.model.language import TINY_BASE_SIZE, LanguageConfig

    signals = sum(row.signals for row in SPOKEN.values())
    return LanguageConfig.tiny(TINY_HIDDEN, TINY_BASE_SIZE + 2 + signals).to_json()  # 2: the legacy wrap tokens


def _vicuna(version: str, vocab_size: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.language import LanguageConfig

    build = {"v0": LanguageConfig.vicuna_7b_v0, "v1.5": LanguageConfig.vicuna_7b}[version]
    return build(vocab_size).to_json()


def _tiny_output_projector(rows: int, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.output_projector import OutputProjectorConfig

    return OutputProjectorConfig.tiny(in_dim=TINY_HIDDEN, out_dim=width, queries=rows).to_dict()


def _output_projector(rows: int, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.output_projector import OutputProjectorConfig

    return OutputProjectorConfig(out_dim=width, queries=rows).to_dict()


def _tiny_decoder(modality: str, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.diffusion_config import DiffusionConfig

    return DiffusionConfig.tiny(SPOKEN[modality].like, width).to_json()  # type: ignore[arg-type]


def _tiny_upscaler() -> Mapping[str, Any]:
    """The tiny video decoder at half its size more along each side."""
    return {**_tiny_decoder("video", SPOKEN["video"].condition[1]), "size": (96, 96)}


def _decoder(name: str) -> Mapping[str, Any]:
    from nodes.nextgpt.model.diffusion_config import PRESETS as SIZES

    return SIZES[name]().to_json()


def _tiny_text_encoder(kind: str, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.text_encoder import TextEncoderConfig
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return TextEncoderConfig.tiny(kind, width, Tokenizer.tiny().size).to_json()  # type: ignore[arg-type]


def _text_encoder(name: str) -> Mapping[str, Any]:
    from nodes.nextgpt.model.text_encoder import TextEncoderConfig

    sizes = {"sd15": "clip_l", "sd2": "open_clip_h", "zeroscope_576w": "open_clip_h", "audioldm_l": "clap"}
    return getattr(TextEncoderConfig, sizes[name])().to_json()


def _text_encoders(
    folder: str,
    shared: str,
    config: Callable[[str, str, int], Mapping[str, Any]],
    widths: Mapping[str, int],
    dtype: str = "float32",
) -> dict[str, Part]:
    """The text encoder of every decoder, `MODALITY_text_encoder`; published ones have a tokenizer folder beside them.

    config: of a modality's encoder of this kind and width.
    """
    parts: dict[str, Part] = {}
    for modality, kind in (("image", "clip"), ("video", "clip"), ("audio", "clap")):
        name = f"{modality}_text_encoder"
        place, width = (folder, widths[modality]) if modality in widths else (shared, SPOKEN[modality].condition[1])
        tokenizer = "tiny" if shared == "tiny" else f"{place}/{modality}_tokenizer"
        facts = {"modality": modality, "tokenizer": tokenizer}
        parts[name] = Part(f"{TEXT_ENCODER}.{kind}", partial(config, modality, kind, width), place, dtype, facts)
    return parts


def _spoken(
    folder: str,
    shared: str,
    widths: Mapping[str, int],
    projector: Callable[[int, int], Mapping[str, Any]],
    decoder: Callable[[str, int], Mapping[str, Any]],
    dtype: str = "float32",
    *,
    spoken: Iterable[Modality],
) -> dict[str, Part]:
    """Output projector and decoder of every modality that the language model of the preset speaks.

    widths: of conditions, where they differ from the table's; only those parts are not `shared` between presets.
    """
    parts: dict[str, Part] = {}
    for row in spoken:
        rows, width = row.condition[0], widths.get(row.name, row.condition[1])
        facts = {"modality": row.name}
        place = folder if row.name in widths else shared
        parts[f"{row.name}_projector"] = Part(row.projector, partial(projector, rows, width), place, dtype, facts)
        parts[f"{row.name}_decoder"] = Part(row.decoder, partial(decoder, row.name, width), place, dtype, facts)
    return parts


def _tiny(name: str, mode: str, form: str, spelling: str, widths: Mapping[str, int]) -> Preset:
    words = {"tokenizer": "tiny", "spelling": spelling, "template": spelling, "untrained": True}
    parts = {
        "encoder": Part(ENCODER, _tiny_encoder, "tiny", extras={"form": form, "tokenizer": "tiny"}),
        "input_projector": Part(INPUT_PROJECTOR, lambda: _tiny_input_projector(mode), name),
        "language_model": Part(LANGUAGE_MODEL, _tiny_language_model, "tiny", extras=words),
        **_spoken(name, "tiny", widths, _tiny_output_projector, _tiny_decoder, spoken=SPOKEN.values()),
        "video_upscaler": Part(SPOKEN["video"].decoder, _tiny_upscaler, "tiny", extras={"modality": "video"}),
        **_text_encoders(name, "tiny", lambda _, kind, width: _tiny_text_encoder(kind, width), widths),
    }
    return Preset(name, parts, made=True)


def _mini() -> Preset:
    """The v1.5 topology in small, for the world of `training/world`; its weights are trained, not made."""
    spoken = [row for row in SPOKEN.values() if row.name in mini.WIDTHS]
    words = {
        "tokenizer": "mini",
        "spelling": "current",
        "template": "current",
        "speaks": [row.name for row in spoken],
    }
    shown = {"form": "patch", "tokenizer": "mini"}
    parts = {
        "encoder": Part(ENCODER, mini.encoder, "mini", extras=shown),
        "input_projector": Part(INPUT_PROJECTOR, mini.input_projector, "mini"),
        "language_model": Part(
            LANGUAGE_MODEL, lambda: mini.language_model(sum(row.signals for row in spoken)), "mini", extras=words
        ),
        **_spoken(
            "mini",
            "mini",
            mini.WIDTHS,
            mini.output_projector,
            lambda modality, _: mini.decoder(modality),
            spoken=spoken,
        ),
        **_text_encoders("mini", "mini", lambda _, kind, width: mini.text_encoder(kind, width), mini.WIDTHS),
    }
    for name, part in parts.items():
        if "tokenizer" in part.extras:
            parts[name] = replace(part, extras={**part.extras, "tokenizer": "mini"})
    return Preset("mini", parts, trained=True)


def _published(
    name: str,
    mode: str,
    form: str,
    spelling: str,
    vicuna: str,
    vocab_size: int,
    widths: Mapping[str, int],
    sizes: Mapping[str, str],
) -> Preset:
    words = {"tokenizer": name, "spelling": spelling, "template": spelling, "first_signal": 32_000, "speaks": [*sizes]}
    parts = {
        "encoder": Part(
            ENCODER, _huge_encoder, "imagebind_huge", "float16", {"form": form, "tokenizer": "imagebind_huge"}
        ),
        "input_projector": Part(INPUT_PROJECTOR, lambda: _input_projector(mode), name, "float16"),
        "language_model": Part(LANGUAGE_MODEL, lambda: _vicuna(vicuna, vocab_size), name, "float16", words),
        **_spoken(
            name,
            name,
            widths,
            _output_projector,
            lambda modality, _: _decoder(sizes[modality]),
            "float16",
            spoken=[SPOKEN[modality] for modality in sizes],
        ),
        "video_upscaler": Part(
            SPOKEN["video"].decoder, lambda: _decoder("zeroscope_xl"), name, "float16", {"modality": "video"}
        ),
        **_text_encoders(name, name, lambda modality, *_: _text_encoder(sizes[modality]), widths, "float16"),
    }
    return Preset(name, parts)


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        _tiny("tiny", "linear", "global", "legacy", {}),
        _tiny("tiny-v1.5", "group", "patch", "current", {"image": 1024}),
        _mini(),
        _published(
            "nextgpt-7b-tiva-v0",
            "linear",
            "global",
            "legacy",
            "v0",
            32_038,
            {},
            {"image": "sd15", "video": "zeroscope_576w", "audio": "audioldm_l"},
        ),
        _published(
            "nextgpt-v1.5-7b",
            "group",
            "patch",
            "current",
            "v1.5",
            32_036,
            {"image": 1024},
            {"image": "sd2", "video": "zeroscope_576w", "audio": "audioldm_l"},
        ),
    )
}


def files_of(name: str) -> list[str]:
    """The weight files of a preset that somebody has to put into the models folder; none for one that is made."""
    preset = PRESETS.get(name)
    if preset is None or preset.made:
        return []
    return [f"{part.folder}/{key}.safetensors" for key, part in preset.parts.items()]
