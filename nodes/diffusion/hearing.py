"""Working bytes of nodes that make, read and describe: sound, speech, captions, conditions of a text.

As `working.py`, for models of transformers: multiples of a layer's output, counted on fake tensors of the true sizes
(tests/unit/diffusion/test_hearing.py) and rounded up. What a folder's settings leave out is taken as its library has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graph_engine.models.spec import DTYPE_BYTES, ModelSpec
from nodes.nextgpt.working import DECODED, DENOISER, TRUNK

Values = Mapping[str, Any]

STATES = 15
"""Of a text encoder's states, beside those of its layers, which are all kept."""
CLIP_TOKENS = 77
WAVE = 5.1
"""Of the widest stage of a vocoder that adds up kernels of several sizes (HiFi-GAN, arXiv 2010.05646)."""
CODEC = 4.1
"""Of the last stage of EnCodec's decoder."""
WHISPER_S, WHISPER_TOKENS = 30, 448
FRAMES_PER_TOKEN = 3
"""What VITS speaks for a letter or the pause after it, at most: 62 frames and 14 letters to a second are half of that."""
LETTERS = 1_000
"""A text that is not known yet."""
SEEING = 10
"""Of the tokens of a vision trunk whose attention makes its matrix (BLIP's), beside that."""
KEPT = 4
"""Of an encoder's answer, while a decoder reads it."""


def conditioning(values: Values) -> int:
    """Of the largest text encoder; a text with weights is encoded beside an empty one, a long one in pieces side by side."""
    text = values.get("text")
    rows = 1 if isinstance(text, str) and "(" not in text else 2
    if values.get("long_text") == "further rows":  # a token has two letters or more
        rows += len(text) // (2 * CLIP_TOKENS) if isinstance(text, str) else 1
    most = 0
    for entry in values["clip"].extras["encoders"]:
        spec = ModelSpec.from_dict(entry)
        layers, width = int(spec.config.get("num_hidden_layers", 12)), int(spec.config.get("hidden_size", 512))
        most = max(most, rows * CLIP_TOKENS * (layers + STATES) * width * DTYPE_BYTES.get(spec.dtype, 4))
    return most


def captioning(values: Values) -> int:
    """All pictures of a batch at once: the vision trunk, then a cache of keys and values over picture and words."""
    config, item = _config(values["model"], "model")
    eye = config.get("vision_config") or config.get("encoder") or {}
    words = config.get("text_config") or config.get("decoder") or config
    width, side = int(eye.get("hidden_size", 768)), int(eye.get("image_size", 384))
    tokens = (side // int(eye.get("patch_size", 16))) ** 2 + 1
    layers = int(words.get("num_hidden_layers", words.get("n_layer", 12)))
    spoken = int(words.get("hidden_size", words.get("n_embd", 768)))
    cache = 2 * layers * spoken * (tokens + int(values.get("max_new_tokens") or 30))
    image: Any = values.get("image")
    count = 1 if image is None else int(image.shape[0])
    trunk = tokens * width
    attention = SEEING * trunk + 2 * int(eye.get("num_attention_heads", 12)) * tokens * tokens
    return count * (
        max(TRUNK * trunk, attention, KEPT * trunk + cache) * item + 16 * int(words.get("vocab_size", 30_524))
    )


def transcribing(values: Values) -> int:
    """Half a minute at a time: its encoder, then keys and values of every layer over sound and words."""
    config, item = _config(values["model"], "model")
    width = int(config.get("d_model", 384))
    heard = int(config.get("max_source_positions", 1_500))
    layers = int(config.get("decoder_layers", 4))
    words = min(int(values.get("max_new_tokens") or WHISPER_TOKENS), WHISPER_TOKENS)
    encoder = heard * width
    cache = 2 * layers * width * (heard + words)
    return max(TRUNK * encoder, KEPT * encoder + cache) * item + 16 * int(config.get("vocab_size", 51_865))


def reading_aloud(values: Values) -> int:
    """The vocoder over all frames, or for long texts the attention between letters, which makes its matrix."""
    config, item = _config(values["model"], "model")
    text = values.get("text")
    tokens = 2 * (len(text) if isinstance(text, str) else LETTERS) + 1
    frames = FRAMES_PER_TOKEN * tokens
    heads, width = int(config.get("num_attention_heads", 2)), int(config.get("hidden_size", 192))
    attention = 10 * heads * tokens * tokens + 9 * width * tokens
    path = 4 * frames * tokens
    rates = config.get("upsample_rates", (8, 8, 2, 2))
    wave = WAVE * frames * _widest(int(config.get("upsample_initial_channel", 512)), rates)
    return round(max(attention, path, wave) * item) + frames * math.prod(rates) * 4


def playing(values: Values) -> int:
    """AudioLDM 2 or MusicGen; twice the work with guidance."""
    bundle = values["model"]
    seconds, passes = float(values.get("seconds") or 5.0), 1 if float(values.get("guidance") or 3.5) <= 1 else 2
    return (_music if bundle.config["kind"] == "musicgen" else _sound)(bundle, seconds, passes)


def _sound(bundle: ModelSpec, seconds: float, passes: int) -> int:
    (unet, item), (vae, vae_item) = _config(bundle, "unet"), _config(bundle, "vae")
    vocoder, wave_item = _config(bundle, "vocoder")
    rates = vocoder.get("upsample_rates", (4, 4, 4, 4))
    samples = seconds * int(vocoder.get("sampling_rate", 16_000))
    frames, bands = samples / math.prod(rates), int(vocoder.get("model_in_dim", 80))
    channels = vae.get("block_out_channels", (64,))
    factor = 2 ** (len(channels) - 1)
    cells = frames / factor * bands / factor
    denoising = DENOISER["audio"] * passes * cells * int(unet["block_out_channels"][0]) * item
    decoding = DECODED * frames * bands * int(channels[0]) * vae_item
    wave = WAVE * frames * _widest(int(vocoder.get("upsample_initial_channel", 512)), rates) * wave_item
    return round(max(denoising, decoding, wave) + 4 * samples)


def _music(bundle: ModelSpec, seconds: float, passes: int) -> int:
    config, item = _config(bundle, "model")
    speaker, codec = config.get("decoder") or {}, config.get("audio_encoder") or {}
    rates = codec.get("upsampling_ratios", (8, 5, 4, 2))
    hop, rate = math.prod(rates), int(codec.get("sampling_rate", 24_000))
    frames = seconds * rate / hop
    layers, width = int(speaker.get("num_hidden_layers", 24)), int(speaker.get("hidden_size", 1_024))
    cache = 2 * layers * width * passes * (frames + CLIP_TOKENS)
    wave = CODEC * frames * hop * int(codec.get("num_filters", 32))
    return round(max(cache, wave) * item + 4 * seconds * rate)


def _widest(channels: int, rates: Any) -> int:
    """Numbers per frame at the widest stage of a vocoder, which halves its channels wherever it makes frames longer."""
    widest, length = 0, 1
    for stage, rate in enumerate(rates, 1):
        length *= int(rate)
        widest = max(widest, channels // 2**stage * length)
    return widest


def _config(bundle: ModelSpec, place: str) -> tuple[Mapping[str, Any], int]:
    """A part's settings, and the bytes of its numbers. Raises KeyError where a bundle has none of this name."""
    part = bundle.extras["parts"][place]
    config = part["config"]
    return config.get("config", config), DTYPE_BYTES.get(part["dtype"], 4)
