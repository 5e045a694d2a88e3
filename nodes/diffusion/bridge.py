"""Bridge: the parts of a checkpoint as one decoder of NExT-GPT, and a decoder of NExT-GPT as the parts of a checkpoint.

A projected condition needs no bridge: it is CONDITIONING, which `diffusion.sample` takes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from graph_engine import Decoder, NodeContext, NodeError, node
from graph_engine.models.spec import WeightFile
from nodes.diffusion import families
from nodes.diffusion.header import read_header
from nodes.diffusion.kinds import Model, Vae
from nodes.diffusion.latent import vae_factor
from nodes.diffusion.load import CATEGORY
from nodes.diffusion.single_file import OF_UNET, OF_VAE

ROWS = 77
"""Of a condition for SD 1.x and 2.x."""


class DecoderParts(NamedTuple):
    model: Model
    vae: Vae


@node(id="diffusion.as_decoder", version="1.1.0", title="As NExT-GPT decoder", category=CATEGORY)
def as_decoder(model: Model, vae: Vae) -> Decoder:
    """A checkpoint of SD 1.x or 2.x as NExT-GPT's image decoder. It draws conditions of the width it was trained with.

    768 for SD 1.x, as `nextgpt-7b-tiva-v0` speaks; 1024 for SD 2.x, as `nextgpt-v1.5-7b` does.
    """
    if model.extras["architecture"] == "sdxl":
        raise NodeError(
            "SDXL needs the summary of a text beside the condition, which NExT-GPT does not speak.",
            remedy="Use a checkpoint of SD 1.x or 2.x.",
            code="wrong_architecture",
            port="model",
        )
    if model.extras.get("loras"):
        raise NodeError(
            "a decoder of NExT-GPT takes no LoRA.",
            remedy="Link nextgpt.project_out to diffusion.sample instead, which does.",
            code="wrong_model",
            port="model",
        )
    if model.config["in_channels"] != vae.config.get("latent_channels", 4):
        raise NodeError(
            f"the model draws in {model.config['in_channels']} channels, the VAE reads "
            f"{vae.config.get('latent_channels', 4)}.",
            remedy="Link model and VAE of one checkpoint, and none for inpainting.",
            code="bad_latent",
            port="vae",
        )
    from nodes.nextgpt.model.diffusion_config import DiffusionConfig

    side = model.config.get("sample_size") or 64
    cells = (side, side) if isinstance(side, int) else tuple(side)
    factor = vae_factor(vae.config)
    config = {
        "modality": "image",
        "unet": dict(model.config),
        "vae": dict(vae.config),
        "condition": [ROWS, model.config["cross_attention_dim"]],
        "schedule": dict(model.extras["schedule"]),
        "size": [cells[0] * factor, cells[1] * factor],
    }
    # How it draws unless it is told otherwise is NExT-GPT's own, and said: the decode nodes ask for it.
    config = DiffusionConfig.from_json(config).to_json()
    extras = {"modality": "image", "name": model.extras.get("name", "")}
    return replace(model, family=families.DECODER, config=config, files=_together(model, vae), extras=extras)


@node(id="diffusion.decoder_parts", title="Parts of a NExT-GPT decoder", category=CATEGORY)
def decoder_parts(context: NodeContext, decoder: Decoder) -> DecoderParts:
    """The denoiser and the autoencoder of an image decoder, for `sample` with LoRA, masks and other schedulers' freedom."""
    from nodes.nextgpt.checkpoint import present

    config = decoder.config
    if config.get("modality") != "image":
        raise NodeError(
            f"this is a decoder of {config.get('modality', 'something else')}, not of pictures.",
            remedy="Link an image decoder.",
            code="wrong_modality",
            port="decoder",
        )
    decoder = present(decoder, context.models_dir)
    facts = {"architecture": families.architecture(config["unet"]), "name": decoder.extras.get("preset", "decoder")}
    facts["decoder"] = decoder.to_dict()
    model = replace(
        decoder,
        family=families.UNET,
        config=dict(config["unet"]),
        files=_share(decoder, "unet."),
        extras={**facts, "schedule": dict(config["schedule"])},
    )
    vae = replace(decoder, family=families.VAE, config=dict(config["vae"]), files=_share(decoder, "vae."), extras=facts)
    return DecoderParts(model, vae)


def _together(model: Model, vae: Vae) -> tuple[WeightFile, ...]:
    """The files of both. Files of two checkpoints, which may hold both parts each, say which part is taken of them."""
    if {file.path for file in model.files} & {file.path for file in vae.files}:
        return tuple({file.path: file for file in (*vae.files, *model.files)}.values())  # read once
    marked = ((vae, OF_VAE), (model, OF_UNET))
    return tuple(replace(file, prefix=mark + file.prefix) for part, mark in marked for file in part.files)


def _share(decoder: Decoder, prefix: str) -> tuple[WeightFile, ...]:
    """The decoder's files, each with the bytes that one part takes of it; all of them if they hold parts apart."""
    mark = {"unet.": OF_UNET, "vae.": OF_VAE}[prefix]
    marked = [file for file in decoder.files if file.prefix.startswith(mark)]
    if marked:
        return tuple(replace(file, prefix=file.prefix.removeprefix(mark)) for file in marked)
    files = []
    for file in decoder.files:
        sizes = read_header(Path(file.path)).bytes
        share = sum(size for key, size in sizes.items() if key.startswith(prefix))
        files.append(replace(file, bytes=share or file.bytes))
    return tuple(files)
