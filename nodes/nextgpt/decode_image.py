"""Decode image: a condition becomes a picture, at once or by way of its latent."""

from __future__ import annotations

from typing import Any

from graph_engine import Conditioning, Decoder, Effect, Image, Latent, Needs, NodeContext, node
from nodes.nextgpt.denoise import (
    Sampling,
    Side,
    Start,
    Strength,
    cancellable,
    cells,
    hand,
    of_modality,
    sample,
    sampling_inputs,
)
from nodes.nextgpt.load import lease
from nodes.nextgpt.refusal import refusals
from nodes.nextgpt.working import decoding, denoising, drawing, encoding, steps

CATEGORY = "NExT-GPT/decode"
DRAW, SAMPLE = (Needs(device=True, working_bytes=bytes, passes=steps) for bytes in (drawing, denoising))
DECODE, ENCODE = (Needs(device=True, working_bytes=bytes) for bytes in (decoding, encoding))


@node(id="nextgpt.decode_image", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=DRAW)
@sampling_inputs
def decode_image(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    width: Side = 0,
    height: Side = 0,
) -> Image:
    """Draw a condition "B 77 width": IMAGE "B H W 3". Steps, guidance and sides of 0 are the decoder's own.

    negative: what to move away from when guidance is above 1; without it what the text encoder makes of no words, as in
    the original; without that, zeros. scheduler, spacing: how a step is taken ("default": as the decoder has it), and where
    the steps stop.
    """
    latent = sample(context, "image", condition, decoder, sampling, size=pixels(decoder, width, height))
    return latent_to_image(context, latent, decoder)


@node(id="nextgpt.sample_image", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=SAMPLE)
@sampling_inputs
def sample_image(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    width: Side = 0,
    height: Side = 0,
    latent: Start | None = None,
    strength: Strength = 1.0,
) -> Latent:
    """The first half of `decode_image`: a latent "B 4 H/8 W/8". With `latent`, that one is changed by `strength`."""
    size = pixels(decoder, width, height)
    return sample(context, "image", condition, decoder, sampling, latent=latent, strength=strength, size=size)


@node(id="nextgpt.latent_to_image", category=CATEGORY, needs=DECODE)
def latent_to_image(context: NodeContext, latent: Latent, decoder: Decoder) -> Image:
    """The second half of `decode_image`: latents "B 4 h w" to IMAGE "B 8h 8w 3"."""
    samples = cells(latent, "image")
    module = lease(context, of_modality(decoder, "image"))
    with refusals("bad_latent", "latent"), cancellable():
        return hand("image").decode(module, samples, cancelled=lambda: context.cancelled).cpu()


@node(id="nextgpt.image_to_latent", category=CATEGORY, needs=ENCODE)
def image_to_latent(context: NodeContext, image: Image, decoder: Decoder) -> Latent:
    """Pictures "B H W C" with sides that are multiples of 8 to latents "B 4 H/8 W/8", where an edit begins."""
    module = lease(context, of_modality(decoder, "image"))
    rgb = image[..., :3].expand(-1, -1, -1, 3).to(context.device)
    with refusals("bad_image", "image"), cancellable():
        samples = hand("image").encode(module, rgb, cancelled=lambda: context.cancelled)
    return {"samples": samples.float().cpu(), "modality": "image"}


def pixels(decoder: Any, width: int, height: int) -> tuple[int, int] | None:
    """(height, width), a side of 0 being the decoder's own; None when both are."""
    if not width and not height:
        return None
    own = decoder.config["size"]
    return height or own[0], width or own[1]
