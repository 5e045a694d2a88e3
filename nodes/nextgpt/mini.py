"""Sizes of the mini models: every class of the full NExT-GPT (v1.5 topology) at about one six-hundredth of its size.

Why these sizes: docs/training.md. All weights together stay below 20 million, 40 MB in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIDDEN = 256
"""Width of the language model."""
EMBEDDING = 192
"""Width of the encoder's space."""
WIDTHS: Mapping[str, int] = {"image": 128, "video": 128, "audio": 128}
"""Widths of the decoders' conditions."""
ROWS = 40
"""Of a condition of pictures and films; the longest sentence of the world has 36 tokens."""

_SCHEDULE = {
    # Ends at a signal-to-noise ratio of 0.00025: with Stable Diffusion's (0.0047) the mean of a picture shines through
    # the noise in training and is missing in sampling, and plain backgrounds are all mean.
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction_type": "v_prediction",
}


def vocabulary() -> int:
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return Tokenizer.mini().size


def encoder() -> Mapping[str, Any]:
    from nodes.nextgpt.model.imagebind_config import ImageBindConfig, TrunkSize

    return ImageBindConfig(
        vision=TrunkSize(160, 4, 5),
        text=TrunkSize(128, 2, 4),
        audio=TrunkSize(128, 3, 4),
        modalities=("vision", "text", "audio"),
        out_dim=EMBEDDING,
        image_size=64,
        vision_patch=8,
        plane_patch=16,
        text_length=ROWS,
        text_vocabulary=vocabulary() + 1,  # one more for the end of a text, which ImageBind wants to be the largest
    ).to_dict()


def input_projector() -> Mapping[str, Any]:
    from nodes.nextgpt.model.input_projector import InputProjectorConfig

    return InputProjectorConfig(
        "group", EMBEDDING, HIDDEN, width=88, heads=4, stage_depths=(1, 1, 1), group_tokens=(32, 16)
    ).to_dict()


def language_model(signals: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.language import LanguageConfig

    return LanguageConfig(
        "llama",
        {
            "vocab_size": vocabulary() + signals,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.02,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
        },
    ).to_json()


def output_projector(rows: int, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.output_projector import OutputProjectorConfig

    return OutputProjectorConfig(
        "transformer",
        HIDDEN,
        width,
        min(rows, ROWS),
        # One row, a sound's, says less than the forty of a picture.
        width=112 if rows > 1 else 64,
        heads=4,
        encoder_layers=1,
        decoder_layers=2,
        feed_forward=256,
    ).to_dict()


def decoder(modality: str) -> Mapping[str, Any]:
    from nodes.nextgpt.model.diffusion_config import DiffusionConfig, TrainingSchedule

    schedule = TrainingSchedule(**_SCHEDULE)  # type: ignore[arg-type]
    width = WIDTHS[modality]
    if modality == "image":
        config = DiffusionConfig(
            "image",
            {
                **_unet([64, 96], width, channels=8),
                # As the UNet of films has it, which begins with these weights.
                "use_linear_projection": True,
                "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
                "sample_size": 8,
            },
            _vae([16, 32, 40, 56], 3, 8),
            (ROWS, width),
            schedule=schedule,
            size=(64, 64),
            steps=16,
            guidance=2.5,
            # Adds noise at every step: without that, two places that are equally likely stay both, and a thing comes twice.
            scheduler="euler_ancestral",
        )
    elif modality == "video":
        config = DiffusionConfig(
            "video",
            {
                **_unet([64, 96], width, channels=8),
                "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
                "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
                "sample_size": 8,
            },
            # The autoencoder of pictures, trained on from there: a frame is a picture.
            _vae([16, 32, 40, 56], 3, 8),
            (ROWS, width),
            schedule=schedule,
            size=(64, 64),
            frames=8,
            fps=4,
            steps=16,
            guidance=2.5,
        )
    else:
        config = DiffusionConfig(
            "audio",
            {
                **_unet([48, 72], width, channels=8),
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
                "cross_attention_dim": [48, 72],
                "class_embed_type": "simple_projection",
                "projection_class_embeddings_input_dim": width,
                "class_embeddings_concat": True,
                "sample_size": 25,
            },
            _vae([24, 32, 40], 1, 8),
            (width,),
            vocoder={
                "model_in_dim": 64,
                "sampling_rate": 16000,
                "upsample_initial_channel": 128,
                # 320 samples, 20 ms: what does not change within it has to repeat with it (`training/world/terms.py`).
                "upsample_rates": [5, 8, 8],
                "upsample_kernel_sizes": [11, 16, 16],
                "resblock_kernel_sizes": [3, 7],
                "resblock_dilation_sizes": [[1, 3], [1, 3]],
                "normalize_before": False,
                "leaky_relu_slope": 0.5,
            },
            schedule=schedule,
            seconds=2.0,
            steps=16,
            guidance=2.0,
        )
    return config.to_json()


def text_encoder(kind: str, width: int) -> Mapping[str, Any]:
    from nodes.nextgpt.model.text_encoder import TextEncoderConfig

    words = vocabulary()
    if kind == "clip":
        options = {
            "vocab_size": words,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": ROWS,
            "hidden_act": "gelu",
            # Only a pooled output, which nobody reads, would need them.
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
        }
        return TextEncoderConfig("clip", options, ROWS).to_json()
    options = {
        "vocab_size": words,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 78,
        "pad_token_id": 0,
        "projection_dim": width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return TextEncoderConfig("clap", options, 77).to_json()


def _unet(blocks: list[int], width: int, channels: int = 4) -> dict[str, Any]:
    return {
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": blocks,
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": width,
        "norm_num_groups": 8,
    }


def _vae(blocks: list[int], channels: int, latent: int) -> dict[str, Any]:
    return {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": latent,
        "block_out_channels": blocks,
        "down_block_types": ["DownEncoderBlock2D"] * len(blocks),
        "up_block_types": ["UpDecoderBlock2D"] * len(blocks),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        # Latents are brought to unit deviation within the autoencoder itself (`training/autoencoder.py`).
        "scaling_factor": 1.0,
    }
