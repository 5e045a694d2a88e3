"""Decode audio: a condition becomes a sound, at once or by way of its latent."""

from __future__ import annotations

from graph_engine import Audio, Conditioning, Decoder, Effect, Latent, NodeContext, node
from nodes.nextgpt.decode_image import DECODE, DRAW, ENCODE, SAMPLE
from nodes.nextgpt.denoise import (
    Sampling,
    Seconds,
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

CATEGORY = "NExT-GPT/decode"


@node(id="nextgpt.decode_audio", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=DRAW)
@sampling_inputs
def decode_audio(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    seconds: Seconds = 0.0,
    normalise: bool = True,
) -> Audio:
    """Sound a condition "B 1 512": AUDIO {waveform "B 1 T", sample_rate 16,000}. Numbers of 0 are the decoder's own.

    negative: what to move away from when guidance is above 1; without it what the text encoder makes of no words, as in
    the original; without that, zeros. normalise: bring conditions to unit length, on which the decoder was trained; the
    original NExT-GPT does not.
    """
    length = seconds or decoder.config["seconds"]
    latent = sample(context, "audio", condition, decoder, sampling, seconds=length, normalise=normalise)
    return latent_to_audio(context, latent, decoder, length)


@node(id="nextgpt.sample_audio", version="1.2.0", category=CATEGORY, effect=Effect.SEEDED, needs=SAMPLE)
@sampling_inputs
def sample_audio(
    context: NodeContext,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    seconds: Seconds = 0.0,
    latent: Start | None = None,
    strength: Strength = 1.0,
    normalise: bool = True,
) -> Latent:
    """The first half of `decode_audio`: a latent "B 8 T 16", 25 rows a second. With `latent`, that one is changed."""
    made = sample(
        context,
        "audio",
        condition,
        decoder,
        sampling,
        latent=latent,
        strength=strength,
        seconds=seconds or None,
        normalise=normalise,
    )
    length = seconds or (latent or {}).get("seconds")
    return {**made, "seconds": length} if length else made


@node(id="nextgpt.latent_to_audio", version="1.1.0", category=CATEGORY, needs=DECODE)
def latent_to_audio(context: NodeContext, latent: Latent, decoder: Decoder, seconds: Seconds = 0.0) -> Audio:
    """The second half of `decode_audio`: latents "B 8 T 16" to AUDIO.

    seconds: 0 is the length for which the latent was made, or all of it where the latent does not say.
    """
    samples = cells(latent, "audio")
    module = lease(context, of_modality(decoder, "audio"))
    length = seconds or latent.get("seconds")
    with refusals("bad_latent", "latent"), cancellable():
        waveform = hand("audio").decode(module, samples, seconds=length, cancelled=lambda: context.cancelled)
    return {"waveform": waveform.cpu(), "sample_rate": int(decoder.config["sample_rate"])}


@node(id="nextgpt.audio_to_latent", category=CATEGORY, needs=ENCODE)
def audio_to_latent(context: NodeContext, audio: Audio, decoder: Decoder) -> Latent:
    """A sound "B C T" of any rate to a latent "B 8 T 16", 25 rows a second, where an edit begins.

    Channels are mixed to one. The mean is removed and the peak brought to 0.5, as in the decoder's training.
    """
    from nodes.nextgpt.model.resample import resample

    module = lease(context, of_modality(decoder, "audio"))
    rate = int(decoder.config["sample_rate"])
    with refusals("bad_audio", "audio"):
        mono = resample(audio["waveform"].float().mean(dim=1), int(audio["sample_rate"]), rate)
        samples = hand("audio").encode(module, mono.to(context.device))
    return {"samples": samples.float().cpu(), "modality": "audio", "seconds": mono.shape[-1] / rate}
