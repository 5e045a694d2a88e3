"""ControlNet: a picture (edges, depth, a pose) that a drawing follows.

It travels with the condition: which net, which picture, how strongly, when. `sample` leases the nets beside its denoiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from graph_engine import Conditioning, Image, NodeContext, NodeError, Widget, node
from graph_engine.graph.kinds import MASK
from graph_engine.models.spec import ModelSpec
from nodes.diffusion.architecture import ARCHITECTURES
from nodes.diffusion.families import architecture
from nodes.diffusion.kinds import ControlNet
from nodes.diffusion.load import AS_STORED, CATEGORY, Dtype, Name, lease
from nodes.nextgpt.denoise import CONTROLS

Share = Annotated[float, Widget(min=0, max=1, step=0.01)]


def _reads(literals: Mapping[str, Any]) -> list[str]:
    from nodes.diffusion.controlnet_file import reads

    return reads(str(literals.get("name", "")))


@node(id="diffusion.load_controlnet", title="Load ControlNet", category=CATEGORY, reads=_reads)
def load_controlnet(context: NodeContext, name: Name, dtype: Dtype = "as stored") -> ControlNet:
    """A ControlNet for SD 1.x, 2.x or SDXL; it has to be of the same base as the checkpoint that it helps.

    name: a diffusers folder or a .safetensors file (of diffusers, or in the original layout), under the models folder or its
    subfolder `controlnet`.
    """
    from nodes.diffusion.controlnet_file import load

    return load(name, context.models_dir, "" if dtype == AS_STORED else dtype)


@node(id="diffusion.apply_controlnet", title="Apply ControlNet", category=CATEGORY)
def apply_controlnet(
    conditioning: Conditioning,
    controlnet: ControlNet,
    image: Image,
    strength: Annotated[float, Widget(min=0, max=10, step=0.05)] = 1.0,
    start: Share = 0.0,
    end: Share = 1.0,
    mask: Annotated[Any, MASK] | None = None,
) -> Conditioning:
    """A condition whose drawing follows a picture too; several nodes in a row add up. For `sample`'s input `positive`.

    It counts for the negative as well, which needs no node of its own. image: what the net was trained on (edges, depth, a
    pose), one for all latents or one for each; it is stretched to the size that is drawn. start, end: shares of the steps
    between which it acts. strength: of what it adds; 0 is without. mask: for nets that were trained to inpaint: what is drawn
    anew (1) is hidden from them.
    """
    width, wanted = _width(controlnet.config), {int(tensor.shape[-1]) for tensor, _ in conditioning}
    if width is not None and wanted - {width}:
        title = ARCHITECTURES[architecture(controlnet.config)].title
        raise NodeError(
            f"the ControlNet {_name(controlnet)} is for {title} and reads conditions {width} wide; this one is "
            f"{min(wanted - {width})} wide.",
            remedy="Load a ControlNet of the same base (SD 1.x, 2.x or SDXL) as the checkpoint.",
            code="wrong_controlnet",
            port="controlnet",
        )
    if start >= end:
        raise NodeError(
            f"start is {start:g} and end {end:g}: there is no step between them.",
            remedy="Set end above start.",
            code="out_of_range",
            port="end",
        )
    if mask is not None and (mask.shape[0] not in (1, len(image)) or tuple(mask.shape[1:]) != tuple(image.shape[1:3])):
        raise NodeError(
            f"the mask is {len(mask)} of {mask.shape[2]}x{mask.shape[1]} pixels, the picture {len(image)} of "
            f"{image.shape[2]}x{image.shape[1]}.",
            remedy="Resize the mask to the picture; give one mask, or one for each picture.",
            code="bad_mask",
            port="mask",
        )
    if strength == 0:
        return conditioning
    entry = {
        "controlnet": controlnet,
        "image": image[..., :3].expand(-1, -1, -1, 3).contiguous(),
        "strength": strength,
        "start": start,
        "end": end,
    }
    if mask is not None:
        entry["mask"] = mask
    return [[tensor, {**facts, CONTROLS: [*facts.get(CONTROLS, []), entry]}] for tensor, facts in conditioning]


# --- use ------------------------------------------------------------------------------------------------------------


def specs(conditioning: Any) -> list[ModelSpec]:
    """The ControlNets of a condition as they are leased, each once; of one that is not known yet none."""
    found = conditioning if isinstance(conditioning, list | tuple) else []
    nets = [entry["controlnet"] for _, facts in found for entry in facts.get(CONTROLS, [])]
    return list({net.key: replace(net, extras={}) for net in nets}.values())


def entries(positive: Any, negative: Any, model: ModelSpec, count: int) -> list[Any]:
    """What the condition carries of ControlNets, once it is known to fit the model and `count` latents. Raises NodeError."""
    found = _shared(positive, "positive")
    for other in [] if negative is None else _shared(negative, "negative"):
        if not any(_same(other, entry) for entry in found):
            raise NodeError(
                "the negative has a ControlNet that the positive has not.",
                remedy="Link diffusion.apply_controlnet to positive alone; it counts for both.",
                code="bad_control",
                port="negative",
            )
    for entry in found:
        spec, pictures = entry["controlnet"], entry["image"]
        if why := _unfit(spec.config, model.config):
            title = ARCHITECTURES[model.extras["architecture"]].title
            raise NodeError(
                f"the ControlNet {_name(spec)} does not fit this {title} model: {why}.",
                remedy="Load a ControlNet that was trained for the base of this checkpoint.",
                code="wrong_controlnet",
                port="positive",
            )
        if len(pictures) not in (1, count):
            raise NodeError(
                f"{len(pictures)} pictures for a ControlNet do not fit {count} latents.",
                remedy="Give diffusion.apply_controlnet one picture, or one for each latent.",
                code="bad_control",
                port="positive",
            )
    return found


def controls(context: NodeContext, found: list[Any], latent: Any) -> tuple[Any, ...]:
    """`entries` with their nets leased and their pictures of the latent's size, as `model.denoise.sample` takes them."""
    from nodes.diffusion.model.control import Control
    from nodes.media.image_scale import scale

    made = []
    for entry in found:
        net = lease(context, entry["controlnet"])
        like = next(net.parameters())
        pixels = fitted(entry["image"], net.config, latent)
        if (mask := entry.get("mask")) is not None:
            # -1 is what such nets know as hidden, so nothing is resampled after it is written.
            hidden = scale(mask[..., None], pixels.shape[2], pixels.shape[1], "nearest") >= 0.5
            pixels = pixels.masked_fill(hidden, -1.0)
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
        pixels = pixels.to(device=like.device, dtype=like.dtype)
        made.append(Control(net, pixels, entry["strength"], entry["start"], entry["end"]))
    return tuple(made)


def fitted(pictures: Any, config: Mapping[str, Any], latent: Any) -> Any:
    """Pictures "B H W 3" stretched to as many pixels as the net makes cells of, by Lanczos as diffusers does."""
    from nodes.media.image_scale import scale

    factor = 2 ** (len(config.get("conditioning_embedding_out_channels") or (16, 32, 96, 256)) - 1)
    return scale(pictures, latent.shape[3] * factor, latent.shape[2] * factor, "lanczos")


def _shared(conditioning: Any, port: str) -> list[Any]:
    """The ControlNets of a condition, which all its parts share: one loop draws them together."""
    lists = [facts.get(CONTROLS, []) for _, facts in conditioning]
    first = lists[0] if lists else []
    for other in lists[1:]:
        if len(other) != len(first) or not all(_same(*pair) for pair in zip(first, other, strict=True)):
            raise NodeError(
                "these conditions, which are drawn together, have different ControlNets.",
                remedy="Apply the ControlNet to all of them at once, with a picture for each.",
                code="bad_control",
                port=port,
            )
    return list(first)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import torch

    numbers = ("strength", "start", "end")
    return (
        one["controlnet"].key == other["controlnet"].key
        and all(one[name] == other[name] for name in numbers)
        and torch.equal(one["image"], other["image"])
        and ("mask" in one) == ("mask" in other)
        and ("mask" not in one or torch.equal(one["mask"], other["mask"]))
    )


def _unfit(net: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    """Why a ControlNet of this build is none for that denoiser; nothing if it is."""
    width, wanted = _width(net), unet["cross_attention_dim"]
    if width is not None and width != wanted:
        return f"it reads conditions {width} wide, the model {wanted}"
    if net.get("in_channels", 4) != unet.get("out_channels", 4):
        return (
            f"it reads latents of {net.get('in_channels', 4)} channels, the model draws {unet.get('out_channels', 4)}"
        )
    own, theirs = _levels(net), _levels(unet)
    if own != theirs:
        return f"its levels are {own}, those of the model {theirs} (channels by layers)"
    told = "projection_class_embeddings_input_dim"
    if net.get("addition_embed_type") and net.get(told) != unet.get(told):
        return "it is told sizes and a summary of the text as SDXL is, which this model is not, or not so"
    return ""


def _width(net: Mapping[str, Any]) -> int | None:
    """Of the conditions that a net reads; None for one that reads none (SDXL's small ones)."""
    blocks = net.get("down_block_types", ("CrossAttnDownBlock2D",))
    middle = net.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    attends = any("CrossAttn" in str(block) for block in (*blocks, middle))
    return int(net.get("cross_attention_dim", 1280)) if attends else None


def _levels(config: Mapping[str, Any]) -> str:
    channels = list(config.get("block_out_channels", (320, 640, 1280, 1280)))
    layers = config.get("layers_per_block", 2)
    per_level = layers if isinstance(layers, list | tuple) else [layers] * len(channels)
    return ", ".join(f"{width}x{count}" for width, count in zip(channels, per_level, strict=False))


def _name(net: ModelSpec) -> str:
    return str(net.extras.get("name", "")) or "without a name"
