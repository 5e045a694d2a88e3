"""A speaker: the whole model in one object that answers a talk with words and media, as the nodes would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.model import audio_decoder, image_decoder, video_decoder
from nodes.nextgpt.model.generation import GenerateOptions, generate
from nodes.nextgpt.model.prompts import build_inputs
from nodes.nextgpt.model.signals import Media, SignalPolicy, Text, scan
from nodes.nextgpt.training.captioning import Captioner
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stages.encoding_side import features_of
from nodes.nextgpt.training.world.talk import Said, Talk

MOST_TOKENS = 160


@dataclass(frozen=True)
class Made:
    """A medium of an answer: "H W 3" for an image, "F H W 3" for a video, "S" of 16 kHz for audio. said: the words before."""

    modality: str
    value: Tensor
    said: str


@dataclass(frozen=True)
class Answer:
    """text: all words, in order. made: the media, in order."""

    text: str
    made: tuple[Made, ...]
    seconds: float


class Speaker:
    """seed: of the noise that decoders start from."""

    def __init__(self, parts: Parts, seed: int = 0) -> None:
        self.parts, self.seed = parts, seed
        self.senses, self.speech = Senses(parts), Speech(parts)
        self.projector = parts.get("input_projector")
        self._captioners: dict[str, Captioner] = {}

    @torch.no_grad()
    def answer(self, turns: Sequence[Said], draw: bool = True) -> Answer:
        """The answer to a talk that ends with the user. draw: without it media are named but not made."""
        began = time.monotonic()
        words = self.speech.words
        blocks = features_of([Talk("", "en", tuple(turns), ())], self.senses, self.projector)[0]
        prompt = build_inputs(
            self.speech.model, words.tokenizer, turns_of(turns, blocks), words.layout, words.vocabulary, MOST_TOKENS
        )
        options = GenerateOptions(max_new_tokens=MOST_TOKENS, temperature=0)
        spoken = generate(self.speech.model, prompt, options, words.vocabulary, SignalPolicy({}, {}), words.stop)
        text, made, before = "", [], ""
        for event in scan(spoken.answer, words.vocabulary):
            if isinstance(event, Text):
                before = words.tokenizer.decode(event.ids).strip()
                text = f"{text} {before}".strip()
            elif isinstance(event, Media):
                stretch = slice(event.start, event.stop)
                value = torch.zeros(0)
                if draw:
                    value = self._make(event.modality, spoken.hidden[stretch], spoken.embeds[stretch], event.order)
                made.append(Made(event.modality, value, before))
        return Answer(text, tuple(made), time.monotonic() - began)

    def _make(self, modality: str, hidden: Tensor, embeds: Tensor, order: int) -> Tensor:
        condition = self.parts.get(f"{modality}_projector")(hidden[None], embeds[None])
        return self.decode(modality, condition, self.seed + order)

    @torch.no_grad()
    def decode(self, modality: str, condition: Tensor, seed: int) -> Tensor:
        """A condition "1 rows width" to a medium, guided away from what the text encoder makes of no words."""
        decoder, negative = self.parts.get(f"{modality}_decoder").eval(), self.caption(modality, "")
        if modality == "image":
            latent = image_decoder.sample(decoder, condition, negative, seed=seed)
            return image_decoder.decode(decoder, latent)[0].cpu()
        if modality == "video":
            latent = video_decoder.sample(decoder, condition, negative, seed=seed)
            return video_decoder.decode(decoder, latent).cpu()
        latent = audio_decoder.sample(decoder, condition, negative, seed=seed)
        return audio_decoder.decode(decoder, latent, seconds=decoder.config.seconds)[0, 0].cpu()

    def caption(self, modality: str, words: str) -> Tensor:
        """The text encoder's own condition of a caption "1 rows width"."""
        if modality not in self._captioners:
            self._captioners[modality] = Captioner(self.parts, modality)
        return self._captioners[modality].targets([words])

    @torch.no_grad()
    def embedding(self, modality: str, value: Any) -> Tensor:
        """Of a finished medium, in the encoder's space "D"."""
        from nodes.nextgpt.model.preprocess import preprocess

        formed: Any = value[None] if modality == "image" else {"frames": value, "fps": 4}
        if modality == "audio":
            formed = {"waveform": value[None, None], "sample_rate": 16_000}
        encoder = self.senses.encoder
        tensor = preprocess(modality, formed, encoder.config).to(self.parts.device)
        rows: Tensor = encoder.encode("audio" if modality == "audio" else "vision", tensor)
        return rows[0, 0].float().cpu()

    @torch.no_grad()
    def text_embedding(self, words: str) -> Tensor:
        from nodes.nextgpt.model.preprocess import pad_text_ids
        from nodes.nextgpt.words import tokenizer_of

        encoder = self.senses.encoder
        tokenizer = tokenizer_of(self.parts.extras("encoder"), self.parts.models_dir)
        ids = [tokenizer.bos_id, *tokenizer.encode(words)]
        padded = pad_text_ids([ids], encoder.config.text_vocabulary - 1, encoder.config.text_length)
        rows: Tensor = encoder.encode("text", padded.to(self.parts.device))
        return rows[0, 0].float().cpu()
