"""Working bytes: what a node's computing takes beside its models, from its literals and the models that arrived; and passes.

Each is a multiple of one layer's output at its widest, for a pass without gradients and with attention that makes no
matrix of weights. The multiples were counted on fake tensors of the true sizes (tests/unit/nextgpt/test_working.py) and
rounded up; what a device really took corrects them (`graph_engine.store.estimates`). What is linked and not known yet is
taken as the model's own default. Bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graph_engine.models.spec import DTYPE_BYTES, ModelSpec

Values = Mapping[str, Any]
"""Literals of a node, and the specs at its model ports."""

DENOISER = {"image": 27, "video": 34, "audio": 16}
"""Of the first layer's output: skips, the gated feed-forward layer (eight times as wide), the attention's three inputs."""
DECODED, ENCODED = 6.1, 5.1
"""Of the widest layer of an autoencoder at full resolution."""
TRUNK = 14
"""Of the tokens of an encoder's trunk."""
TOGETHER = 4
"""Frames that an autoencoder takes at a time."""
PROMPT_TOKENS = 512
"""A prompt that is not known yet: some turns with a few media."""
CLIPS = {"video": 15, "audio": 3}


def denoising(values: Values) -> int:
    """Of one condition with guidance: two passes side by side."""
    decoder, item = _model(values, "decoder")
    config = decoder.config
    cells = _cells(values, config)
    passes = 1 if float(values.get("guidance") or config["guidance"]) <= 1 else 2
    layer = passes * cells * config["unet"]["block_out_channels"][0] * item
    return round(DENOISER[config["modality"]] * layer)


def decoding(values: Values) -> int:
    """From a latent of the size that the literals name, or the decoder's own."""
    decoder, item = _model(values, "decoder")
    config = decoder.config
    factor = 2 ** (len(config["vae"]["block_out_channels"]) - 1)
    cells = _cells(values, config)
    frames = _frames(values, config)
    spot = factor * factor * config["vae"]["block_out_channels"][0] * item
    made = cells * factor * factor * (3 * 4 if config["modality"] != "audio" else 4)
    return round(DECODED * spot * cells / frames * min(frames, TOGETHER)) + made


def encoding(values: Values) -> int:
    """Of a picture, film or sound of the decoder's own size into a latent."""
    return round(decoding(values) * ENCODED / DECODED)


def drawing(values: Values) -> int:
    """Denoising, then decoding."""
    return max(denoising(values), decoding(values))


def redrawing(values: Values) -> int:
    return max(encoding(values), drawing(values))


def tokens(values: Values) -> int:
    """Passes of a language model: one for the prompt, which gives the first token, and one for each further token."""
    return int(values.get("max_new_tokens") or 150)


def steps(values: Values) -> int:
    """Passes of a denoiser: as many as the literals say, or the decoder's own."""
    decoder, _ = _model(values, "decoder")
    return denoiser_passes({**values, "steps": values.get("steps") or decoder.config["steps"]})


def denoiser_passes(values: Values) -> int:
    """Of `steps` steps; of an existing latent the part that `strength` says."""
    whole = int(values["steps"])
    taken = max(1, min(whole, int(whole * float(values.get("strength") or 1.0))))
    return 2 * taken if values.get("scheduler") == "heun" else taken  # of second order: twice a step


def speaking(values: Values) -> int:
    """The cache of keys and values for prompt and answer, and one pass over the prompt."""
    model, item = _model(values, "model")
    options = model.config["options"]
    hidden, layers = int(options["hidden_size"]), int(options["num_hidden_layers"])
    heads = int(options.get("num_attention_heads", 1))
    width = int(options.get("num_key_value_heads") or heads) * int(options.get("head_dim") or hidden // heads)
    context = int(options.get("max_position_embeddings") or 4096)
    new = int(values.get("max_new_tokens") or 150)
    prompt = max(1, min(_tokens(values.get("conversation")), context - new))
    cache = 2 * layers * width * item * (prompt + new)
    once = prompt * item * (3 * int(options.get("intermediate_size") or 4 * hidden) + 5 * hidden)
    return cache + once + 4 * 4 * int(options["vocab_size"]) + 4 * 2 * hidden * new


def reading(modality: str) -> Callable[[Values], int]:
    """Of an encoder's trunk over one medium."""

    def bytes(values: Values) -> int:
        encoder, item = _model(values, "encoder")
        config = encoder.config
        if "vision" not in config:  # a vision tower
            side = int(config.get("image_size") or 224) // int(config.get("patch_size") or 14)
            return TRUNK * CLIPS.get(modality, 1) * side * side * int(config.get("hidden_size") or 1024) * item
        trunk = "vision" if modality in ("image", "video") else modality
        return TRUNK * CLIPS.get(modality, 1) * _trunk_tokens(config, trunk) * int(config[trunk]["width"]) * item

    return bytes


def _trunk_tokens(config: Mapping[str, Any], trunk: str) -> int:
    """Tokens of one clip."""
    if trunk == "text":
        return int(config["text_length"])
    if trunk == "imu":
        return int(config["imu_samples"]) // int(config["imu_window"]) + 1
    if trunk == "audio":
        patch, stride = int(config["audio_patch"]), int(config["audio_stride"])
        return ((int(config["mel_bins"]) - patch) // stride + 1) * (
            (int(config["audio_frames"]) - patch) // stride + 1
        ) + 1
    patch = int(config["vision_patch" if trunk == "vision" else "plane_patch"])
    return (int(config["image_size"]) // patch) ** 2 + 1


def _tokens(conversation: Any) -> int:
    """About how long the prompt is; a token has two letters or more."""
    if not isinstance(conversation, list):
        return PROMPT_TOKENS
    count = 64
    for turn in conversation:
        for part in turn["parts"]:
            rows = part["tensor"].shape[0] if part["type"] == "features" else 0
            count += 16 + len(str(part.get("text", ""))) // 2 + int(rows)
    return count


def _model(values: Values, port: str) -> tuple[ModelSpec, int]:
    """Raises KeyError when it has not arrived: then nothing is known."""
    spec = values[port]
    if not isinstance(spec, ModelSpec):
        raise KeyError(port)
    return spec, DTYPE_BYTES.get(spec.dtype, 4)


def _frames(values: Values, config: Mapping[str, Any]) -> int:
    return int(values.get("frames") or config["frames"]) if config["modality"] == "video" else 1


def _cells(values: Values, config: Mapping[str, Any]) -> int:
    """Places of the latent, over all frames."""
    factor = 2 ** (len(config["vae"]["block_out_channels"]) - 1)
    if config["modality"] == "audio":
        # 16,000 samples a second, 160 to a mel frame, 64 mel bands.
        frames = float(values.get("seconds") or config["seconds"]) * config["sample_rate"] / 160
        return round(frames / factor * 64 / factor)
    height, width = int(values.get("height") or config["size"][0]), int(values.get("width") or config["size"][1])
    return _frames(values, config) * (height // factor) * (width // factor)
