"""The turn that `tests.bench.offload` measures: models of true sizes with random weights, and what each of them computes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt.families import FAMILIES, trunk_family
from nodes.nextgpt.preset import PRESETS
from nodes.nextgpt.working import decoding, denoising, reading, speaking

CATALOG = Catalog(FAMILIES)
PATTERN_BYTES = 64 << 20
SCALE = 0.02
"""Of the random weights. Never zeros: a processor computes those faster, and draws less power."""


@dataclass(frozen=True)
class Size:
    """tokens: of the answer; prompt: before it; steps: of each denoiser; frames, seconds: of film and sound."""

    tokens: int = 50
    prompt: int = 600
    steps: int = 20
    frames: int = 24
    seconds: float = 10.0


@dataclass(frozen=True)
class Stage:
    """A model at work.

    passes   times through all of its layers
    working  bytes beside the weights
    compute  (module, device, how many passes) -> a tensor
    """

    name: str
    spec: ModelSpec
    passes: int
    working: int
    compute: Callable[[Any, str, int], Any]


def write_weights(path: Path, spec: ModelSpec) -> WeightFile:
    """A safetensors file with a tensor for each key of the model: one random pattern, over and over."""
    with torch.device("meta"):
        module = CATALOG[spec.family].build(spec.config).to(getattr(torch, spec.dtype))
    tensors = module.state_dict()
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    header, end = {}, 0
    for key, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(1)
    dtype = getattr(torch, spec.dtype)
    count = min(PATTERN_BYTES, end) // dtype.itemsize + 8
    pattern = (torch.randn(count, generator=generator) * SCALE).to(dtype).view(torch.uint8).numpy()
    whole = {key: tensor for key, tensor in tensors.items() if not tensor.is_floating_point()}
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        begin = file.tell()
        while file.tell() - begin < end:
            file.write(pattern[: end - (file.tell() - begin)].data)
        for key, tensor in whole.items():  # counters and positions: numbers that mean something
            file.seek(begin + header[key]["data_offsets"][0])
            file.write(torch.zeros(tensor.shape, dtype=tensor.dtype).numpy().tobytes())
    return WeightFile.of(path)


def stages(scale: str, size: Size, folder: Path) -> Iterator[Stage]:
    """Picture in; words, a picture, a sound and a film out. scale: "full" (NExT-GPT 7B, float16) or "tiny" (float32).

    Files that are not in the folder yet are written.
    """
    parts = PRESETS["nextgpt-7b-tiva-v0" if scale == "full" else "tiny"].parts
    dtype = "float16" if scale == "full" else "float32"

    def spec(part: str, family: str = "", **config: Any) -> ModelSpec:
        made = ModelSpec(family or parts[part].family, {**parts[part].config(), **config}, (), dtype)
        path = folder / f"{part}-{scale}.safetensors"
        file = WeightFile.of(path) if path.exists() else write_weights(path, made)
        return ModelSpec(made.family, made.config, (file,), dtype)

    encoder = spec("encoder", trunk_family("vision"), modalities=["vision"])
    values: dict[str, Any] = {"encoder": encoder}
    yield Stage("ImageBind", encoder, 1, reading("image")(values), _look)
    language = spec("language_model")
    values = {"model": language, "max_new_tokens": size.tokens + size.prompt}
    vocabulary = int(language.config["options"]["vocab_size"])
    yield Stage("prompt", language, 1, speaking(values), lambda m, d, n: _speak(m, d, size.prompt, 0, vocabulary))
    yield Stage(
        "answer", language, size.tokens, speaking(values), lambda m, d, n: _speak(m, d, size.prompt, n, vocabulary)
    )
    for modality, more in (("image", {}), ("audio", {"seconds": size.seconds}), ("video", {"frames": size.frames})):
        decoder = spec(f"{modality}_decoder")
        values = {"decoder": decoder, **more}
        latent = _latent(decoder.config, values)
        yield Stage(modality, decoder, size.steps, denoising(values), _denoise(latent, decoder.config))
        yield Stage(f"{modality} out", decoder, 1, decoding(values), _decode(latent))


def _look(module: Any, device: str, passes: int) -> Any:
    like = next(module.parameters())
    item = torch.full((1, 1, 3, 2, 224, 224), 0.1, device=device, dtype=like.dtype)
    return module.encode("vision", item, kind="global", scale=False, apart=1)


_CACHE: dict[str, Any] = {}
"""Keys and values of the prompt, which the answer goes on from."""


def forget_words(turn: Sequence[Stage], number: int) -> None:
    """After a stage whose model is not the next one's: keys and values of the prompt leave with the language model."""
    if number + 1 == len(turn) or turn[number + 1].spec.key != turn[number].spec.key:
        _CACHE.clear()


def _speak(module: Any, device: str, prompt: int, tokens: int, vocabulary: int) -> Any:
    ids = torch.arange(prompt, device=device)[None] % vocabulary
    if not tokens:
        out = module.causal(input_ids=ids, use_cache=True, **module.last_logits_only)
        _CACHE[device] = out.past_key_values
        return out.logits
    cache = _CACHE[device]
    token = ids[:, :1]
    for _ in range(tokens):
        out = module.causal(input_ids=token, past_key_values=cache, use_cache=True, **module.last_logits_only)
        token = out.logits[:, -1:].argmax(-1)
    cache.crop(-tokens)
    return out.logits


def _latent(config: Any, values: dict[str, Any]) -> tuple[int, ...]:
    channels = int(config["unet"].get("in_channels", 4))
    factor = 2 ** (len(config["vae"]["block_out_channels"]) - 1)
    if config["modality"] == "audio":
        # 160 samples to a frame of 64 bands; whole windows of the denoiser.
        frames = round(float(values["seconds"]) * config["sample_rate"] / 160 / factor)
        return 1, channels, -(-frames // 4) * 4, 64 // factor
    spot = (config["size"][0] // factor, config["size"][1] // factor)
    if config["modality"] == "video":
        return (1, channels, int(values["frames"]), *spot)
    return (1, channels, *spot)


def _denoise(latent: tuple[int, ...], config: Any) -> Callable[[Any, str, int], Any]:
    """Steps with guidance: two passes side by side."""

    def compute(module: Any, device: str, passes: int) -> Any:
        like = next(module.unet.parameters())
        place = {"device": device, "dtype": like.dtype}
        state = torch.full((2, *latent[1:]), 0.5, **place)
        condition = torch.full((2, *config["condition"]), 0.1, **place)
        for step in range(passes):
            timestep = 999 - step
            if config["modality"] == "audio":
                noise = module.unet(state, timestep, encoder_hidden_states=None, class_labels=condition).sample
            else:
                noise = module.unet(state, timestep, encoder_hidden_states=condition).sample
            state = state - 0.01 * noise
        return state

    return compute


def _decode(latent: tuple[int, ...]) -> Callable[[Any, str, int], Any]:
    def compute(module: Any, device: str, passes: int) -> Any:
        like = next(module.vae.parameters())
        cells = torch.full(latent, 0.5, device=device, dtype=like.dtype)
        if cells.ndim == 5:
            cells = cells[0].transpose(0, 1)
        made = [module.vae.decode(part).sample for part in cells.split(4)]
        if hasattr(module, "vocoder"):
            return module.vocoder(made[0].squeeze(1))
        return made[-1]

    return compute
