"""Decode video: a condition becomes a film, at once or by way of its latent."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Conditioning, Decoder, Effect, Latent, Needs, NodeContext, Video, Widget, node
from nodes.nextgpt.decode_image import pixels
from nodes.nextgpt.denoise import (
    Frames,
    Guidance,
    Negative,
    Scheduler,
    Seed,
    Side,
    Start,
    Steps,
    Strength,
    cancellable,
    hand,
    of_modality,
    sample,
)
from nodes.nextgpt.load import lease
from nodes.nextgpt.refusal import refusals

CATEGORY = "NExT-GPT/decode"
DEVICE = Needs(device=True)
Rate = Annotated[float, Widget(min=0, max=120, step=1)]


@node(id="nextgpt.decode_video", category=CATEGORY, effect=Effect.SEEDED, needs=DEVICE)
def decode_video(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    negative: Negative | None = None,
    seed: Seed = 0,
    steps: Steps = 0,
    guidance: Guidance = 0.0,
    scheduler: Scheduler = "ddim",
    width: Side = 0,
    height: Side = 0,
    frames: Frames = 0,
    fps: Rate = 0.0,
) -> Video:
    """Film a condition "1 77 width": VIDEO {frames "F H W 3", fps}. Numbers of 0 are the decoder's own.

    negative: what to move away from when guidance is above 1; without it, a condition of zeros.
    """
    latent = sample_video(
        context, condition, decoder, negative, seed, steps, guidance, scheduler, width, height, frames
    )
    return latent_to_video(context, latent, decoder, fps)


@node(id="nextgpt.sample_video", category=CATEGORY, effect=Effect.SEEDED, needs=DEVICE)
def sample_video(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    negative: Negative | None = None,
    seed: Seed = 0,
    steps: Steps = 0,
    guidance: Guidance = 0.0,
    scheduler: Scheduler = "ddim",
    width: Side = 0,
    height: Side = 0,
    frames: Frames = 0,
    latent: Start | None = None,
    strength: Strength = 1.0,
) -> Latent:
    """The first half of `decode_video`: a latent "1 4 F H/8 W/8". With `latent`, that one is changed by `strength`."""
    return sample(
        context,
        "video",
        condition,
        decoder,
        negative=negative,
        seed=seed,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        latent=latent,
        strength=strength,
        size=pixels(decoder, width, height),
        frames=frames or None,
    )


@node(id="nextgpt.latent_to_video", category=CATEGORY, needs=DEVICE)
def latent_to_video(context: NodeContext, latent: Latent, decoder: Decoder, fps: Rate = 0.0) -> Video:
    """The second half of `decode_video`: a latent "1 4 F h w" to VIDEO with frames "F 8h 8w 3"."""
    module = lease(context, of_modality(decoder, "video"))
    with refusals("bad_latent", "latent"), cancellable():
        frames = hand("video").decode(module, latent["samples"], cancelled=lambda: context.cancelled)
    return {"frames": frames.cpu(), "fps": float(fps or decoder.config["fps"]), "audio": None}
