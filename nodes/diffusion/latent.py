"""Latents: where a drawing begins, and the way between pictures and latents."""

from __future__ import annotations

from typing import Annotated, Any

from graph_engine import Image, Latent, Mask, Needs, NodeContext, NodeError, Widget, node
from nodes.diffusion.kinds import VAE, Vae
from nodes.diffusion.load import CATEGORY, lease
from nodes.diffusion.working import autoencoding, bare

DEVICE = Needs(device=True, working_bytes=autoencoding, models=bare("vae"))
FACTOR, CHANNELS = 8, 4
"""Of every published autoencoder of SD 1.x, 2.x and SDXL."""
Side = Annotated[int, Widget(min=8, max=8192, step=8)]


@node(id="diffusion.empty_latent", category=CATEGORY)
def empty_latent(
    width: Side = 512,
    height: Side = 512,
    batch: Annotated[int, Widget(min=1, max=64)] = 1,
    vae: Annotated[Any, VAE] | None = None,
) -> Latent:
    """An empty sheet "B 4 H/8 W/8" for `sample`; a batch draws several pictures. An unusual VAE says its own numbers."""
    import torch

    factor = FACTOR if vae is None else vae_factor(vae.config)
    channels = CHANNELS if vae is None else vae.config.get("latent_channels", CHANNELS)
    if width % factor or height % factor:
        raise NodeError(
            f"{width}x{height} pixels are no multiples of {factor}.",
            remedy=f"Choose multiples of {factor}.",
            code="bad_size",
            port="width",
        )
    samples = torch.zeros(batch, channels, height // factor, width // factor)
    return {"samples": samples, "modality": "image", "empty": True}


@node(id="diffusion.mask_latent", category=CATEGORY)
def mask_latent(latent: Latent, mask: Mask) -> Latent:
    """Only where the mask is 1 will `sample` change the latent; the rest is kept."""
    import torch

    samples = latent["samples"]
    if mask.shape[0] not in (1, samples.shape[0]):
        raise NodeError(
            f"{mask.shape[0]} masks do not fit {samples.shape[0]} latents.",
            remedy="Give one mask, or one for each.",
            code="bad_mask",
            port="mask",
        )
    cells = torch.nn.functional.interpolate(mask[:, None], size=tuple(samples.shape[-2:]))
    return {**{key: value for key, value in latent.items() if key != "empty"}, "noise_mask": cells}


@node(id="diffusion.vae_encode", category=CATEGORY, needs=DEVICE)
def vae_encode(context: NodeContext, image: Image, vae: Vae) -> Latent:
    """Pictures to latents "B 4 H/8 W/8", where an edit begins. Sides have to be multiples of 8."""
    return {"samples": _encode(context, lease(context, vae), image), "modality": "image"}


@node(id="diffusion.encode_inpaint", category=CATEGORY, needs=DEVICE)
def encode_inpaint(context: NodeContext, image: Image, mask: Mask, vae: Vae) -> Latent:
    """A picture of which only the part under the mask is drawn anew; for ordinary models and for inpainting ones.

    mask: 1 where something new goes, of the picture's size.
    """
    module = lease(context, vae)
    if tuple(mask.shape[1:]) != tuple(image.shape[1:3]) or mask.shape[0] not in (1, image.shape[0]):
        raise NodeError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]} pixels, the picture {image.shape[2]}x{image.shape[1]}.",
            remedy="Resize the mask to the picture.",
            code="bad_mask",
            port="mask",
        )
    whole = {"samples": _encode(context, module, image), "modality": "image"}
    masked = mask_latent(whole, (mask >= 0.5).float())
    # Grey where something new goes: 0 in the autoencoder's range of -1 to 1.
    hidden = (mask < 0.5).float()[..., None]
    rgb = _rgb(image)
    return {**masked, "masked_samples": _encode(context, module, rgb * hidden + 0.5 * (1 - hidden))}


@node(id="diffusion.vae_decode", category=CATEGORY, needs=DEVICE)
def vae_decode(context: NodeContext, latent: Latent, vae: Vae, tiled: bool = False) -> Image:
    """Latents "B 4 h w" to pictures "B 8h 8w 3". tiled: piece by piece, for pictures too large for the memory."""
    import torch

    module = lease(context, vae)
    samples = latent["samples"]
    channels = module.config.latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise NodeError(
            f"the latent is {'x'.join(map(str, samples.shape))}, the VAE takes batches of {channels} channels.",
            remedy="Use the VAE of the checkpoint that made the latent.",
            code="bad_latent",
            port="latent",
        )
    like = next(module.parameters())
    pictures = []
    with torch.no_grad():
        for sample in samples.split(1):
            context.check()
            cells = sample.to(like) / module.config.scaling_factor + (module.config.shift_factor or 0.0)
            decoded = module.tiled_decode(cells) if tiled else module.decode(cells)
            pictures.append((decoded.sample.float() / 2 + 0.5).clamp(0, 1).cpu())
    return torch.cat(pictures).permute(0, 2, 3, 1).contiguous()


def vae_factor(config: Any) -> int:
    """Pixels per latent cell along one side."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _rgb(image: Any) -> Any:
    return image[..., :3].expand(-1, -1, -1, 3)


def _encode(context: NodeContext, module: Any, image: Any) -> Any:
    """The mean of the autoencoder's answer, no draw: the same picture always gives the same latent."""
    import torch

    factor = vae_factor(module.config)
    if image.shape[1] % factor or image.shape[2] % factor:
        raise NodeError(
            f"the picture has {image.shape[2]}x{image.shape[1]} pixels, which are no multiples of {factor}.",
            remedy=f"Resize or crop it to multiples of {factor}.",
            code="bad_image",
            port="image",
        )
    like = next(module.parameters())
    pixels = _rgb(image).to(like).permute(0, 3, 1, 2) * 2 - 1
    with torch.no_grad():
        latents = [module.encode(pixel).latent_dist.mode() for pixel in pixels.split(1)]
    shift = module.config.shift_factor or 0.0
    return ((torch.cat(latents) - shift) * module.config.scaling_factor).float().cpu()
