"""Decode video: a condition becomes a film, at once or by way of its latent."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Conditioning, Decoder, Effect, Latent, NodeContext, Video, Widget, node
from nodes.nextgpt.decode_image import CATEGORY, DECODE, DRAW, ENCODE, SAMPLE, pixels
from nodes.nextgpt.denoise import (
    Frames,
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

Rate = Annotated[float, Widget(min=0, max=120, step=1)]


@node(id="nextgpt.decode_video", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=DRAW)
@sampling_inputs
def decode_video(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    width: Side = 0,
    height: Side = 0,
    frames: Frames = 0,
    fps: Rate = 0.0,
) -> Video:
    """Film a condition "1 77 width": VIDEO {frames "F H W 3", fps}. Numbers of 0 are the decoder's own.

    negative: what to move away from when guidance is above 1; without it what the text encoder makes of no words, as in
    the original; without that, zeros. scheduler, spacing: how a step is taken ("default": as the decoder has it), and where
    the steps stop.
    """
    size = pixels(decoder, width, height)
    latent = sample(context, "video", condition, decoder, sampling, size=size, frames=frames or None)
    return latent_to_video(context, latent, decoder, fps)


@node(id="nextgpt.sample_video", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=SAMPLE)
@sampling_inputs
def sample_video(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    width: Side = 0,
    height: Side = 0,
    frames: Frames = 0,
    latent: Start | None = None,
    strength: Strength = 1.0,
) -> Latent:
    """The first half of `decode_video`: a latent "1 4 F H/8 W/8". With `latent`, that one is changed by `strength`."""
    size = pixels(decoder, width, height)
    return sample(
        context,
        "video",
        condition,
        decoder,
        sampling,
        latent=latent,
        strength=strength,
        size=size,
        frames=frames or None,
    )


@node(id="nextgpt.latent_to_video", category=CATEGORY, needs=DECODE)
def latent_to_video(context: NodeContext, latent: Latent, decoder: Decoder, fps: Rate = 0.0) -> Video:
    """The second half of `decode_video`: a latent "1 4 F h w" to VIDEO with frames "F 8h 8w 3"."""
    samples = cells(latent, "video")
    module = lease(context, of_modality(decoder, "video"))
    with refusals("bad_latent", "latent"), cancellable():
        frames = hand("video").decode(module, samples, cancelled=lambda: context.cancelled)
    return {"frames": frames.cpu(), "fps": float(fps or decoder.config["fps"]), "audio": None}


@node(id="nextgpt.video_to_latent", category=CATEGORY, needs=ENCODE)
def video_to_latent(context: NodeContext, video: Video, decoder: Decoder) -> Latent:
    """A video with sides that are multiples of 8 to a latent "1 4 F H/8 W/8", where an edit begins."""
    module = lease(context, of_modality(decoder, "video"))
    with refusals("bad_video", "video"), cancellable():
        samples = hand("video").encode(module, video["frames"].to(context.device), cancelled=lambda: context.cancelled)
    return {"samples": samples.float().cpu(), "modality": "video"}
