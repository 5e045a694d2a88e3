"""Speech: sound to words by Whisper (arXiv 2212.04356), words to sound by VITS (arXiv 2106.06103)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from graph_engine import Audio, Effect, Needs, NodeContext, NodeError, Widget, node
from nodes.diffusion import bundle
from nodes.diffusion.hearing import reading_aloud, transcribing
from nodes.diffusion.kinds import Recogniser, Speaker
from nodes.diffusion.load import CATEGORY, Name
from nodes.diffusion.sound import Prompt
from nodes.diffusion.working import parts
from nodes.nextgpt.denoise import Seed

_DRAWING = threading.Lock()
"""VITS draws from the one generator of the process."""


@node(
    id="diffusion.load_recogniser",
    version="1.1.0",
    title="Load speech recogniser",
    category=CATEGORY,
    reads=bundle.reads,
)
def load_recogniser(context: NodeContext, name: Name) -> Recogniser:
    """Whisper (a transformers folder), from the models folder."""
    kinds = {"whisper": "WhisperForConditionalGeneration"}
    return bundle.load(name, context.models_dir, kinds, "speech recogniser")


@node(
    id="diffusion.transcribe",
    category=CATEGORY,
    needs=Needs(device=True, working_bytes=transcribing, models=parts("model")),
)
def transcribe(
    context: NodeContext,
    audio: Audio,
    model: Recogniser,
    language: Annotated[str, Widget(max=32, placeholder="en, de, ...; empty: as heard")] = "",
    translate: bool = False,
    max_new_tokens: Annotated[int, Widget(min=1, max=440)] = 440,
) -> str:
    """The words that are spoken in a sound of any length; `translate` gives them in English."""
    import torch

    ear = bundle.processor(model, "AutoFeatureExtractor")
    tokenizer = bundle.processor(model, "AutoTokenizer")
    module = bundle.module(context, model)
    like = next(module.parameters())
    options: dict[str, Any] = {}
    language = language.strip()
    if getattr(module.generation_config, "is_multilingual", False):
        options = {"language": language or None, "task": "translate" if translate else "transcribe"}
    elif language or translate:
        raise NodeError(
            "this recogniser knows one language only.",
            remedy="Leave `language` empty and `translate` off, or load a multilingual Whisper.",
            code="one_language",
            port="language",
        )
    texts = []
    for piece in _pieces(audio, ear.sampling_rate, ear.chunk_length):
        context.check()
        features = ear(piece.numpy(), sampling_rate=ear.sampling_rate, return_tensors="pt")["input_features"]
        with torch.no_grad(), _known_language(language):
            ids = module.generate(
                features.to(like),
                max_new_tokens=min(max_new_tokens, module.config.max_target_positions - 8),
                stopping_criteria=bundle.stopper(context, max_new_tokens),
                **options,
            )
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return " ".join(text.strip() for text in texts if text.strip())


@contextmanager
def _known_language(language: str) -> Iterator[None]:
    """transformers looks a language up among its own and the model's, and lists a hundred of them where it is in neither."""
    try:
        yield
    except ValueError as error:
        if not language or "lang" not in str(error).lower():
            raise
        raise NodeError(
            f"the recogniser does not know the language {language!r}.",
            remedy="Write a code such as en, de or zh, an English name such as german, or nothing: then it is heard.",
            code="unknown_language",
            port="language",
        ) from error


def _pieces(audio: Any, rate: int, seconds: int) -> list[Any]:
    """Mono at the recogniser's rate, in pieces of the length it takes."""
    from nodes.media.audio_resample import resample

    wave = resample(audio["waveform"].mean(dim=1, keepdim=True), audio["sample_rate"], rate)
    return [piece for row in wave[:, 0] for piece in row.split(rate * seconds)]


@node(id="diffusion.load_speaker", version="1.1.0", title="Load speaker", category=CATEGORY, reads=bundle.reads)
def load_speaker(context: NodeContext, name: Name) -> Speaker:
    """VITS (a transformers folder, for example one of the MMS voices), from the models folder."""
    return bundle.load(name, context.models_dir, {"vits": "VitsModel"}, "speaker")


@node(
    id="diffusion.speak",
    category=CATEGORY,
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=reading_aloud, models=parts("model")),
)
def speak(context: NodeContext, text: Prompt, model: Speaker, seed: Seed = 0) -> Audio:
    """Reads a text aloud: AUDIO "1 1 T"."""
    import torch

    tokenizer = bundle.processor(model, "AutoTokenizer")
    module = bundle.module(context, model)
    inputs = tokenizer(text, return_tensors="pt").to(context.device)
    if inputs["input_ids"].shape[-1] == 0:
        raise NodeError("there is nothing to say.", remedy="Write some text.", code="empty_text", port="text")
    devices = [context.device] if context.device.startswith("cuda") else []
    with _DRAWING, torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        waveform = module(**inputs).waveform
    return {"waveform": waveform[:, None].float().cpu(), "sample_rate": int(module.config.sampling_rate)}
