"""CLIP and SigLIP image encoders of transformers, in the place of ImageBind's vision trunk.

CLIP: Radford et al. 2021, arXiv 2103.00020.  SigLIP: Zhai et al. 2023, arXiv 2303.15343.  The networks and the
preparation of pictures are those of transformers; here they get the two forms that NExT-GPT's projectors read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nodes.nextgpt.model.clips import average_views
from nodes.nextgpt.model.preprocess_image import pictures, without_far_ends
from nodes.nextgpt.model.preprocess_video import checked_video, frame_indices

# Frames of each of the five clips of a video.
FRAMES_PER_CLIP = 2

# model_type of the vision config -> classes of transformers: config, network, preparation.
CLASSES: Mapping[str, tuple[str, str, str]] = {
    "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessorPil"),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", "SiglipImageProcessorPil"),
}
# Folders of a whole model (pictures and texts) name that; the vision config is a part of theirs.
WHOLE: Mapping[str, str] = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}


@dataclass(frozen=True)
class TowerConfig:
    """What a Hugging Face folder says of its tower.

    model_type  a key of `CLASSES`
    vision      the vision config of transformers
    processor   `preprocessor_config.json`: size, crop, mean, deviation
    layer       whose output the patches are: -1 the last layer's, -2 the one before (as LLaVA reads towers), ...
    """

    model_type: str
    vision: Mapping[str, Any]
    processor: Mapping[str, Any]
    layer: int = -2

    # A tower sees; it has no other trunk.
    modalities = ("vision",)

    @classmethod
    def of_folder(cls, config: Mapping[str, Any], processor: Mapping[str, Any], layer: int = -2) -> TowerConfig:
        """From the content of `config.json` and `preprocessor_config.json`; raises ValueError for another model."""
        name = str(config.get("model_type", "nothing"))
        vision = config.get("vision_config", {}) if name in WHOLE else config
        model_type = WHOLE.get(name, name)
        if model_type not in CLASSES:
            raise ValueError(
                f"config.json describes {name!r}, which is no vision tower known here; "
                f"choose a folder of {', '.join((*WHOLE, *CLASSES))}"
            )
        made = cls(model_type, dict(vision), dict(processor), layer)
        network, prepared = made.network_config(), made.image_processor()
        if not -network.num_hidden_layers <= layer <= -1:
            raise ValueError(
                f"the tower has {network.num_hidden_layers} layers, so there is no layer {layer}; "
                f"choose -1 to -{network.num_hidden_layers}"
            )
        size = prepared.crop_size if prepared.do_center_crop else prepared.size
        if (size["height"], size["width"]) != (network.image_size, network.image_size):
            raise ValueError(
                f"preprocessor_config.json makes pictures of {size['height']} x {size['width']} pixels, the tower takes "
                f"{network.image_size} x {network.image_size}; take both files from the same folder"
            )
        return made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TowerConfig:
        """The inverse of `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return asdict(self)

    def network_config(self) -> Any:
        """The config object of transformers, its defaults filled in."""
        import transformers

        return getattr(transformers, CLASSES[self.model_type][0])(**self.vision)

    def image_processor(self) -> Any:
        """The preparation of pictures of transformers."""
        import transformers

        return getattr(transformers, CLASSES[self.model_type][2]).from_dict(dict(self.processor))


class VisionTower(nn.Module):
    """The tower with the `encode` of `ImageBind`, for its one modality."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.tower = getattr(transformers, CLASSES[config.model_type][1])(config.network_config())

    def encode(
        self,
        modality: str,
        tensor: Tensor,
        *,
        kind: Literal["global", "patch"] = "global",
        scale: bool = False,
        apart: int = 1,
    ) -> Tensor:
        """Embed pictures ``"B 3 H W"`` or, averaged, views ``"B S 3 H W"``: ``"B N D"``; see `ImageBind.encode`.

        "global" is the pooled vector (CLIP: the class token after its norm; SigLIP: the attention pool), "patch" one row
        per patch.  Rows are as the tower gives them: neither normalised nor scaled.  Raises ValueError for "global" of a
        tower without pooling.
        """
        views = tensor.shape[1] if tensor.ndim == 5 else 1
        items = tensor.flatten(0, 1) if tensor.ndim == 5 else tensor
        out = self.tower(pixel_values=items.to(next(self.parameters()).dtype), output_hidden_states=True)
        if kind == "global":
            if out.pooler_output is None:
                raise ValueError("this tower has no pooled vector; choose the form 'patch'")
            rows = out.pooler_output.unsqueeze(1)
        else:
            rows = out.last_hidden_state if self.config.layer == -1 else out.hidden_states[self.config.layer]
            if self.config.model_type == "clip_vision_model":
                rows = rows[:, 1:]  # without the class token; SigLIP has none
        return average_views(rows, views, apart)

    def reset_buffers(self) -> None:
        """The positions' numbers, which no file holds."""
        embeddings = self.tower.embeddings
        device = embeddings.position_embedding.weight.device
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand(1, -1)


def tower_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a published file that belong to the tower, under the names of `VisionTower`.

    A file may hold the tower alone, with or without "vision_model." before each name, or the whole model, whose text half
    and projections are left out.
    """
    prefix = "vision_model."
    whole = any(key.startswith(prefix) for key in state)
    named = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix) or not whole}
    return {f"tower.{key}": value for key, value in named.items() if not key.endswith("position_ids")}


def preprocess(medium: str, value: Any, config: TowerConfig) -> Tensor:
    """IMAGE -> ``"B 3 H W"``, VIDEO -> ``"1 10 3 H W"`` (first and last frame of five clips of 2 s, clip by clip)."""
    if medium == "image":
        return _prepared(value, config)
    if medium != "video":
        raise ValueError(f"a vision tower does not read {medium!r}; choose image or video")
    frames, fps = checked_video(value)
    chosen = [index for clip in frame_indices(len(frames), fps, FRAMES_PER_CLIP) for index in clip]
    needed = sorted(set(chosen))
    prepared = _prepared(frames[needed], config)
    return prepared[[needed.index(index) for index in chosen]].unsqueeze(0)


def _prepared(image: Tensor, config: TowerConfig) -> Tensor:
    processor = config.image_processor()
    shown = pictures(image)
    if processor.do_center_crop:
        shown = [without_far_ends(picture) for picture in shown]
    pixels: Tensor = processor(shown, return_tensors="pt")["pixel_values"]
    return pixels
