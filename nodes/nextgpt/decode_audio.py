"""Decode audio: a condition becomes a sound, at once or by way of its latent."""

from __future__ import annotations

from graph_engine import Audio, Conditioning, Decoder, Effect, Latent, Needs, NodeContext, node
from nodes.nextgpt.denoise import (
    Guidance,
    Negative,
    Scheduler,
    Seconds,
    Seed,
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


@node(id="nextgpt.decode_audio", category=CATEGORY, effect=Effect.SEEDED, needs=DEVICE)
def decode_audio(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    negative: Negative | None = None,
    seed: Seed = 0,
    steps: Steps = 0,
    guidance: Guidance = 0.0,
    scheduler: Scheduler = "ddim",
    seconds: Seconds = 0.0,
) -> Audio:
    """Sound a condition "B 1 512": AUDIO {waveform "B 1 T", sample_rate 16,000}. Numbers of 0 are the decoder's own.

    negative: what to move away from when guidance is above 1; without it, a condition of zeros.
    """
    latent = sample_audio(context, condition, decoder, negative, seed, steps, guidance, scheduler, seconds)
    return latent_to_audio(context, latent, decoder, seconds or decoder.config["seconds"])


@node(id="nextgpt.sample_audio", category=CATEGORY, effect=Effect.SEEDED, needs=DEVICE)
def sample_audio(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    negative: Negative | None = None,
    seed: Seed = 0,
    steps: Steps = 0,
    guidance: Guidance = 0.0,
    scheduler: Scheduler = "ddim",
    seconds: Seconds = 0.0,
    latent: Start | None = None,
    strength: Strength = 1.0,
) -> Latent:
    """The first half of `decode_audio`: a latent "B 8 T 16", 25 rows a second. With `latent`, that one is changed."""
    return sample(
        context,
        "audio",
        condition,
        decoder,
        negative=negative,
        seed=seed,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        latent=latent,
        strength=strength,
        seconds=seconds or None,
    )


@node(id="nextgpt.latent_to_audio", category=CATEGORY, needs=DEVICE)
def latent_to_audio(context: NodeContext, latent: Latent, decoder: Decoder, seconds: Seconds = 0.0) -> Audio:
    """The second half of `decode_audio`: latents "B 8 T 16" to AUDIO; 0 seconds keep all of it."""
    module = lease(context, of_modality(decoder, "audio"))
    with refusals("bad_latent", "latent"), cancellable():
        waveform = hand("audio").decode(
            module, latent["samples"], seconds=seconds or None, cancelled=lambda: context.cancelled
        )
    return {"waveform": waveform.cpu(), "sample_rate": int(decoder.config["sample_rate"])}
