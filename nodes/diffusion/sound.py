"""Sound by other models than NExT-GPT's: AudioLDM 2 (arXiv 2308.05734) and MusicGen (arXiv 2306.05284)."""

from __future__ import annotations

import math
from typing import Annotated, Any

from graph_engine import Audio, Effect, Needs, NodeContext, Widget, node
from nodes.diffusion import bundle
from nodes.diffusion.hearing import playing
from nodes.diffusion.kinds import SoundModel
from nodes.diffusion.load import CATEGORY, Name
from nodes.diffusion.working import parts
from nodes.nextgpt.denoise import Guidance, Seed

KINDS = {"AudioLDM2Pipeline": "", "musicgen": "MusicgenForConditionalGeneration"}
Prompt = Annotated[str, Widget(multiline=True, max=20_000)]


@node(id="diffusion.load_sound", version="1.1.0", title="Load sound model", category=CATEGORY, reads=bundle.reads)
def load_sound(context: NodeContext, name: Name) -> SoundModel:
    """AudioLDM 2 (a diffusers folder) or MusicGen (a transformers folder), from the models folder."""
    return bundle.load(name, context.models_dir, KINDS, "sound model")


@node(
    id="diffusion.generate_sound",
    version="1.1.0",
    category=CATEGORY,
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=playing, models=parts("model")),
)
def generate_sound(
    context: NodeContext,
    model: SoundModel,
    text: Prompt,
    negative: Prompt = "",
    seconds: Annotated[float, Widget(min=0.1, max=120, step=0.1)] = 5.0,
    steps: Annotated[int, Widget(min=1, max=500)] = 100,
    guidance: Guidance = 3.5,
    seed: Seed = 0,
) -> Audio:
    """A sound or a piece of music for a text: AUDIO "1 C T". MusicGen takes no steps and no negative text."""
    make = _music if model.config["kind"] == "musicgen" else _sound
    return make(context, model, text, negative, seconds, steps, guidance, seed)


def _sound(
    context: NodeContext, model: Any, text: str, negative: str, seconds: float, steps: int, guidance: float, seed: int
) -> Any:
    import torch

    pipe = bundle.pipeline(context, model)

    def report(step: int, timestep: Any, latents: Any) -> None:
        context.progress(step + 1, steps)

    found = pipe(
        text,
        negative_prompt=negative or None,
        audio_length_in_s=seconds,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=context.rng(seed),
        callback=report,
        output_type="pt",
    ).audios
    waveform = torch.as_tensor(found).float().cpu().reshape(1, 1, -1)
    return {"waveform": waveform, "sample_rate": int(pipe.vocoder.config.sampling_rate)}


def _music(
    context: NodeContext, model: Any, text: str, negative: str, seconds: float, steps: int, guidance: float, seed: int
) -> Any:
    import torch

    from nodes.diffusion.model.draw import drawing

    tokenizer = bundle.processor(model, "AutoTokenizer")
    module = bundle.module(context, model)
    codec, speaker = module.config.audio_encoder, module.config.decoder
    # Each codebook speaks one step after the one before, both channels of a stereo model at the same time.
    delayed = speaker.num_codebooks // speaker.audio_channels - 1
    tokens = math.ceil(round(seconds * codec.frame_rate, 6)) + delayed
    inputs = tokenizer([text], return_tensors="pt", padding=True).to(context.device)
    with torch.no_grad():
        waveform = module.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=tokens,
            guidance_scale=guidance if guidance > 1 else None,
            do_sample=False,
            logits_processor=drawing(context.rng(seed), top_k=250),
            stopping_criteria=bundle.stopper(context, tokens),
        )
    rate = int(codec.sampling_rate)
    return {"waveform": waveform[:1, :, : round(seconds * rate)].float().cpu(), "sample_rate": rate}
