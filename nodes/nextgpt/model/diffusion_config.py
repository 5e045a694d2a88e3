"""What the three decoders are made of, as data: presets of the published models and small ones of the same build.

The option dictionaries are the constructor arguments of diffusers' and transformers' classes. Channel lists and
parameter counts were compared with the published models (see the unit tests): SD 1.5 and 2, zeroscope 576w and XL,
AudioLDM s, m and l.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Modality = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class TrainingSchedule:
    """The noise schedule a denoiser was trained with; every sampler is derived from it.

    timestep_spacing        where its samplers stop (diffusers' "leading", "linspace", "trailing"); None is each sampler's own
    rescale_betas_zero_snr  whether its last step was pure noise (arXiv 2305.08891); None is no
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    steps_offset: int = 1
    timestep_spacing: str | None = None
    rescale_betas_zero_snr: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Without what is None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class DiffusionConfig:
    """One decoder: denoiser, autoencoder and, for sound, vocoder.

    `condition` is the shape of one condition: (rows, width) for cross-attention, (width,) for a class embedding.
    `size` is the default height and width in pixels (image, video), `frames` the default count (video), `seconds` the
    default length (audio). `steps`, `guidance` and `scheduler` (a name of `schedulers`) are how it draws unless it is told
    otherwise, by default as NExT-GPT does.
    """

    modality: Modality
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    condition: tuple[int, ...]
    vocoder: Mapping[str, Any] | None = None
    schedule: TrainingSchedule = TrainingSchedule()
    size: tuple[int, int] = (512, 512)
    frames: int = 16
    fps: int = 8
    seconds: float = 5.0
    sample_rate: int = 16000
    steps: int = 50
    guidance: float = 7.5
    scheduler: str = "ddim"

    def __post_init__(self) -> None:
        if (self.vocoder is not None) != (self.modality == "audio"):
            raise ValueError(f"an audio decoder has a vocoder and no other does; this one is for {self.modality}")

    @property
    def vae_factor(self) -> int:
        """Pixels (or mel frames) per latent cell along one side."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "schedule": self.schedule.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DiffusionConfig":
        return cls(
            **{
                **data,
                "condition": tuple(data["condition"]),
                "size": tuple(data["size"]),
                "schedule": TrainingSchedule(**data["schedule"]),
            }
        )

    @classmethod
    def sd15(cls) -> "DiffusionConfig":
        """Stable Diffusion 1.5, the legacy image decoder."""
        return cls("image", {**_sd_unet(768), "sample_size": 64}, _sd_vae(), (77, 768))

    @classmethod
    def sd2(cls) -> "DiffusionConfig":
        """Stable Diffusion 2 at 768 pixels (v-prediction), the current image decoder."""
        unet = {
            **_sd_unet(1024),
            "sample_size": 96,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        }
        return cls(
            "image",
            unet,
            _sd_vae(),
            (77, 1024),
            schedule=TrainingSchedule(prediction_type="v_prediction"),
            size=(768, 768),
        )

    @classmethod
    def zeroscope_576w(cls) -> "DiffusionConfig":
        """Zeroscope v2 576w, the video decoder: 320 x 576 pixels, written at 8 frames a second."""
        unet = {**_video_unet([320, 640, 1280, 1280], 1024, head_dim=64, layers=2, groups=32), "sample_size": 32}
        return cls("video", unet, _sd_vae(), (77, 1024), size=(320, 576))

    @classmethod
    def zeroscope_xl(cls) -> "DiffusionConfig":
        """Zeroscope v2 XL: the same build at 576 x 1024 pixels. Made to draw a film of 576w over again, larger."""
        return replace(cls.zeroscope_576w(), size=(576, 1024))

    @classmethod
    def audioldm_s(cls) -> "DiffusionConfig":
        """AudioLDM-s-full-v2, the smallest audio decoder."""
        return _audioldm([128, 256, 384, 640])

    @classmethod
    def audioldm_m(cls) -> "DiffusionConfig":
        """AudioLDM-m-full."""
        return _audioldm([192, 384, 576, 960])

    @classmethod
    def audioldm_l(cls) -> "DiffusionConfig":
        """AudioLDM-l-full, NExT-GPT's audio decoder."""
        return _audioldm([256, 512, 768, 1280])

    @classmethod
    def tiny(cls, modality: Modality, condition_width: int | None = None) -> "DiffusionConfig":
        """A decoder of the same build and the same condition shape, small enough for a test on one core.

        `condition_width` defaults to the published one (768, 1024 or 512).
        """
        if modality == "image":
            width = condition_width or 768
            unet = {
                **_sd_unet(width),
                "block_out_channels": [16, 32],
                "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "sample_size": 8,
            }
            return cls("image", unet, _vae([8, 8, 16, 16], 1, 4), (77, width), size=(64, 64), steps=8)
        if modality == "video":
            width = condition_width or 1024
            unet = {**_video_unet([16, 32], width, head_dim=8, layers=1, groups=8), "sample_size": 8}
            return cls("video", unet, _vae([8, 8, 16, 16], 1, 4), (77, width), size=(64, 64), frames=8, steps=8)
        if modality == "audio":
            width = condition_width or 512
            return cls(
                "audio",
                {**_audio_unet([16, 32], width, layers=1, groups=8), "sample_size": 16},
                {**_vae([8, 8, 16], 1, 4, channels=1, latent=8), "scaling_factor": 0.9138255715370178},
                (width,),
                vocoder={
                    "model_in_dim": 64,
                    "sampling_rate": 16000,
                    "upsample_initial_channel": 32,
                    "upsample_rates": [5, 4, 8],
                    "upsample_kernel_sizes": [16, 16, 16],
                    "resblock_kernel_sizes": [3],
                    "resblock_dilation_sizes": [[1, 3]],
                    "normalize_before": False,
                    # The usual 0.01 makes an untrained vocoder silent.
                    "initializer_range": 0.14,
                },
                schedule=TrainingSchedule(0.0015, 0.0195),
                seconds=1.0,
                steps=8,
            )
        raise ValueError(f"there is no decoder for {modality!r}, only for image, video and audio")


def _sd_unet(cross_width: int) -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": cross_width,
        "norm_num_groups": 32,
    }


def _video_unet(channels: list[int], cross_width: int, head_dim: int, layers: int, groups: int) -> dict[str, Any]:
    attended = len(channels) - 1
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock3D"] * attended + ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * attended,
        "layers_per_block": layers,
        "attention_head_dim": head_dim,
        "cross_attention_dim": cross_width,
        "norm_num_groups": groups,
    }


def _audio_unet(channels: list[int], class_width: int, layers: int, groups: int) -> dict[str, Any]:
    attended = len(channels) - 1
    return {
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": channels,
        "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * attended,
        "up_block_types": ["CrossAttnUpBlock2D"] * attended + ["UpBlock2D"],
        "layers_per_block": layers,
        "attention_head_dim": 8,
        # No text attends here: with no encoder states these layers attend to the latent itself.
        "cross_attention_dim": channels,
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": class_width,
        "class_embeddings_concat": True,
        "norm_num_groups": groups,
    }


def _vae(block: list[int], layers: int, groups: int, channels: int = 3, latent: int = 4) -> dict[str, Any]:
    return {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": latent,
        "block_out_channels": block,
        "down_block_types": ["DownEncoderBlock2D"] * len(block),
        "up_block_types": ["UpDecoderBlock2D"] * len(block),
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "scaling_factor": 0.18215,
    }


def _sd_vae() -> dict[str, Any]:
    return _vae([128, 256, 512, 512], layers=2, groups=32)


def _audioldm(channels: list[int]) -> DiffusionConfig:
    """AudioLDM with a denoiser of these channels: 64 mel bands, 100 frames a second, 16 kHz."""
    return DiffusionConfig(
        "audio",
        {**_audio_unet(channels, 512, layers=2, groups=32), "sample_size": 128},
        {**_vae([128, 256, 512], layers=2, groups=32, channels=1, latent=8), "scaling_factor": 0.9138255715370178},
        (512,),
        vocoder={
            "model_in_dim": 64,
            "sampling_rate": 16000,
            "upsample_initial_channel": 1024,
            "upsample_rates": [5, 4, 2, 2, 2],
            "upsample_kernel_sizes": [16, 16, 8, 4, 4],
            "resblock_kernel_sizes": [3, 7, 11],
            "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
            "normalize_before": False,
        },
        schedule=TrainingSchedule(0.0015, 0.0195),
    )


PRESETS = {
    "sd15": DiffusionConfig.sd15,
    "sd2": DiffusionConfig.sd2,
    "zeroscope_576w": DiffusionConfig.zeroscope_576w,
    "zeroscope_xl": DiffusionConfig.zeroscope_xl,
    "audioldm_s": DiffusionConfig.audioldm_s,
    "audioldm_m": DiffusionConfig.audioldm_m,
    "audioldm_l": DiffusionConfig.audioldm_l,
}
