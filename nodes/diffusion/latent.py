"""Latents: where a drawing begins, and the way between pictures and latents."""

from __future__ import annotations

from typing import Annotated, Any

from graph_engine import Image, Latent, Mask, Needs, NodeContext, NodeError, Widget, node
from nodes.diffusion.kinds import VAE, Vae
from nodes.diffusion.load import CATEGORY, lease
from nodes.diffusion.working import SMALLEST_TILE, autoencoding, bare, tile_side

DEVICE = Needs(device=True, working_bytes=autoencoding, models=bare("vae"))
FACTOR, CHANNELS = 8, 4
"""Of every published autoencoder of SD 1.x, 2.x and SDXL."""
Side = Annotated[int, Widget(min=8, max=8192, step=8)]
Tile = Annotated[int, Widget(min=0, max=8192, step=64)]


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


@node(id="diffusion.vae_encode", version="1.1.0", category=CATEGORY, needs=DEVICE)
def vae_encode(context: NodeContext, image: Image, vae: Vae, tile: Tile = 0) -> Latent:
    """Pictures to latents "B 4 H/8 W/8", where an edit begins. Sides have to be multiples of 8.

    tile: piece by piece, each of so many pixels on a side, for pictures too large for the memory; 0 is the whole.
    """
    return {"samples": _encode(context, lease(context, vae), image, tile), "modality": "image"}


@node(id="diffusion.encode_inpaint", version="1.1.0", category=CATEGORY, needs=DEVICE)
def encode_inpaint(context: NodeContext, image: Image, mask: Mask, vae: Vae, tile: Tile = 0) -> Latent:
    """A picture of which only the part under the mask is drawn anew; for ordinary models and for inpainting ones.

    mask: 1 where something new goes, of the picture's size. tile: as of `vae_encode`.
    """
    module = lease(context, vae)
    if tuple(mask.shape[1:]) != tuple(image.shape[1:3]) or mask.shape[0] not in (1, image.shape[0]):
        raise NodeError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]} pixels, the picture {image.shape[2]}x{image.shape[1]}.",
            remedy="Resize the mask to the picture.",
            code="bad_mask",
            port="mask",
        )
    whole = {"samples": _encode(context, module, image, tile), "modality": "image"}
    masked = mask_latent(whole, (mask >= 0.5).float())
    # Grey where something new goes: 0 in the autoencoder's range of -1 to 1.
    hidden = (mask < 0.5).float()[..., None]
    rgb = _rgb(image)
    return {**masked, "masked_samples": _encode(context, module, rgb * hidden + 0.5 * (1 - hidden), tile)}


@node(id="diffusion.vae_decode", version="1.1.0", category=CATEGORY, needs=DEVICE)
def vae_decode(context: NodeContext, latent: Latent, vae: Vae, tiled: bool = False, tile: Tile = 0) -> Image:
    """Latents "B 4 h w" to pictures "B 8h 8w 3". tile: piece by piece, for pictures too large for the memory.

    The pieces have so many pixels on a side, overlap by a quarter and are blended; 0 is the whole, or, where `tiled` is
    chosen, pieces of the size that the VAE was trained with.
    """
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
    shift = module.config.shift_factor or 0.0

    def decoded(cells: Any) -> Any:
        return module.decode(cells.to(like) / module.config.scaling_factor + shift).sample

    through = _tiles(context, module.config, (1, vae_factor(module.config)), len(samples), tile, tiled)
    with torch.no_grad():
        pictures = [(through(decoded, sample) / 2 + 0.5).clamp(0, 1) for sample in samples.split(1)]
    return torch.cat(pictures).permute(0, 2, 3, 1).contiguous()


def vae_factor(config: Any) -> int:
    """Pixels per latent cell along one side."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _rgb(image: Any) -> Any:
    return image[..., :3].expand(-1, -1, -1, 3)


def _tiles(
    context: NodeContext, config: Any, units: tuple[int, int], count: int, tile: int, tiled: bool = False
) -> Any:
    """(function, one of `count` wholes) -> what `model.tiles.in_tiles` makes of it, with progress over all of them."""
    from nodes.diffusion.model.tiles import in_tiles

    side = tile_side(config, tile, tiled)
    if 0 < side < SMALLEST_TILE:
        raise NodeError(
            f"tiles of {side} pixels are too small to look like the picture.",
            remedy=f"Choose {SMALLEST_TILE} or more, best as many as the memory allows; 0 for none.",
            code="out_of_range",
            port="tile",
        )
    passed = 0

    def through(apply: Any, whole: Any) -> Any:
        nonlocal passed
        context.check()
        cells = side // max(units) if side else max(whole.shape)
        made = in_tiles(
            apply, whole, cells, units, lambda done, total: context.progress(passed * total + done, count * total)
        )
        passed += 1
        return made

    return through


def _encode(context: NodeContext, module: Any, image: Any, tile: int) -> Any:
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

    def encoded(pixels: Any) -> Any:
        return module.encode(pixels.to(like) * 2 - 1).latent_dist.mode()

    through = _tiles(context, module.config, (factor, 1), len(image), tile)
    with torch.no_grad():
        latents = [through(encoded, pixels) for pixels in _rgb(image).permute(0, 3, 1, 2).split(1)]
    return (torch.cat(latents) - (module.config.shift_factor or 0.0)) * module.config.scaling_factor
