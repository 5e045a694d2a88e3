"""ImageBind: six modalities, one embedding space (Girdhar et al., CVPR 2023, arXiv 2305.05665).

A clean implementation from the paper and from measured shapes; the state dict has the names of the published
``imagebind_huge`` file, so that file loads with ``strict=True``.

Two ways to read the encoder, because the two generations of NExT-GPT differ:

* ``kind="global"``: one vector per item, from the class token (text: from the end-of-text token);
* ``kind="patch"``: every token but the class token, each through the head that was trained for the class token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.nextgpt.model.clips import average_views
from nodes.nextgpt.model.imagebind_config import MODALITIES, ImageBindConfig
from nodes.nextgpt.model.imagebind_stem import Stem, TextStem, VisionStem, build_stem
from nodes.nextgpt.model.transformer import TRUNK_NORM_EPS, Trunk

Kind = Literal["global", "patch"]

# Stored in the published file, a constant, and not a part of our modules.
TEXT_MASK_KEY = "modality_preprocessors.text.mask"

# Initial logit scales; vision has none.  Only that of text is learned.
LOGIT_SCALES: Mapping[str, float] = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
LOGIT_SCALE_LIMIT = 100.0

# Both generations of NExT-GPT apply the scale to these modalities and only normalise the others.
NEXTGPT_SCALED: frozenset[str] = frozenset({"text", "depth", "thermal", "imu"})


class ImageBind(nn.Module):
    """The encoder.  Build it on ``torch.device("meta")`` and fill it with ``load_state_dict(..., assign=True)``.

    No tensor of the module is outside its state dict, so nothing stays on meta after loading.
    """

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        self.config = config
        names = config.modalities
        self.modality_preprocessors = nn.ModuleDict({name: build_stem(config, name) for name in names})
        self.modality_trunks = nn.ModuleDict({name: _build_trunk(config, name) for name in names})
        self.modality_heads = nn.ModuleDict({name: _build_head(config, name) for name in names})
        # The inner name "1" is the published one; place 0 was the normalisation, which has no weights.
        self.modality_postprocessors = nn.ModuleDict(
            {name: nn.ModuleDict({"1": LogitScale(name)}) for name in names if name in LOGIT_SCALES}
        )

    def encode(
        self, modality: str, tensor: Tensor, *, kind: Kind = "global", scale: bool = False, apart: int = 1
    ) -> Tensor:
        """Embed a batch of one modality; returns ``"B N out_dim"`` with N = `ImageBindConfig.feature_count`.

        tensor, with S clips per item where an S is shown (their embeddings are averaged):

        =============  =================================================================
        vision         ``"B 3 H W"``, ``"B S 3 H W"`` or ``"B S 3 T H W"``
        audio          ``"B 1 mel time"`` or ``"B S 1 mel time"``
        depth/thermal  ``"B 1 H W"`` or ``"B S 1 H W"``
        imu            ``"B 6 2000"``
        text           token ids ``"B 77"``; the end-of-text id is the largest of its row
        =============  =================================================================

        Rows have unit norm, times the logit scale of the modality if ``scale`` (vision has none).  A mean over clips
        is taken after that, as in the original, so its rows are shorter than unit length.  ``apart`` parts of the S
        clips are averaged each for itself, which keeps their order: ``"B apart*N out_dim"``.

        Raises ValueError for a modality that was not built, an unknown kind or a shape that does not fit.
        """
        if modality not in self.modality_trunks:
            raise ValueError(
                f"ImageBind cannot encode {modality!r}: this encoder was built with {list(self.config.modalities)} of "
                f"{list(MODALITIES)}; load it with that modality (images and videos are both 'vision')"
            )
        if kind not in ("global", "patch"):
            raise ValueError(f"ImageBind cannot return kind {kind!r}; choose 'global' or 'patch'")
        stem = self.modality_preprocessors[modality]
        assert isinstance(stem, Stem)
        items, clips = _split_clips(modality, tensor, stem)
        if not isinstance(stem, TextStem):
            items = items.to(self.dtype)
        states = self.modality_trunks[modality](stem(items))
        if isinstance(stem, TextStem):
            # arg-max returns the first of equal maxima, so padding with the end-of-text id is harmless.
            end = items.argmax(dim=-1)
            states = states[torch.arange(len(end), device=end.device), end].unsqueeze(1)
        else:
            states = states[:, :1] if kind == "global" else states[:, 1:]
        embedding: Tensor = F.normalize(self.modality_heads[modality](states), dim=-1)
        if scale and modality in self.modality_postprocessors:
            embedding = embedding * self.modality_postprocessors[modality].get_submodule("1")()
        return average_views(embedding, clips, apart)

    forward = encode

    def unit_rows(self, modality: str, tensor: Tensor) -> Tensor:
        """All tokens through the head, the class token first: unit rows ``"B 1+N out_dim"`` of items without clips (or of
        one clip each). For training, which reads both kinds at once; not for text."""
        stem = self.modality_preprocessors[modality]
        assert isinstance(stem, Stem)
        items, _ = _split_clips(modality, tensor, stem)
        states = self.modality_trunks[modality](stem(items.to(self.dtype)))
        rows: Tensor = F.normalize(self.modality_heads[modality](states).float(), dim=-1)
        return rows

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights; inputs are cast to it."""
        return next(self.parameters()).dtype


class PatchHead(nn.Module):
    """LayerNorm and a linear map without bias: ``"B N D" -> "B N out"``.

    The linear layer's place differs between modalities (the IMU head had a dropout before it), and with it the key.
    """

    def __init__(self, width: int, out_dim: int, place: int) -> None:
        super().__init__()
        self.place = str(place)
        self.add_module("0", nn.LayerNorm(width, eps=TRUNK_NORM_EPS))
        self.add_module(self.place, nn.Linear(width, out_dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(self.place)(self.get_submodule("0")(x))
        return out


class TextHead(nn.Module):
    """The same two layers under the names of the text head: ``"B 1 D" -> "B 1 out"``."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, eps=TRUNK_NORM_EPS), nn.Linear(width, out_dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class LogitScale(nn.Module):
    """The factor by which a modality's unit vectors are stretched; returns a scalar tensor, at most 100."""

    log_logit_scale: Tensor

    def __init__(self, modality: str) -> None:
        super().__init__()
        start = torch.tensor(math.log(LOGIT_SCALES[modality]))
        if modality == "text":
            self.log_logit_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_logit_scale", start)

    def forward(self) -> Tensor:
        return self.log_logit_scale.exp().clamp(max=LOGIT_SCALE_LIMIT)


def published_state(state: Mapping[str, Tensor], modalities: Iterable[str] = MODALITIES) -> dict[str, Tensor]:
    """The entries of a published file which an `ImageBind` with these modalities takes with ``strict=True``.

    The causal mask is dropped (it may be there or not) and so is every trunk that was not asked for.  Entries that
    belong to no known modality stay, so that strict loading reports them.
    """
    left_out = tuple(f"{name}." for name in set(MODALITIES) - set(modalities))

    def wanted(key: str) -> bool:
        _, _, rest = key.partition(".")  # "modality_trunks" . "vision.blocks.0..."
        return key != TEXT_MASK_KEY and not rest.startswith(left_out)

    return {key: value for key, value in state.items() if wanted(key)}


def _build_trunk(config: ImageBindConfig, modality: str) -> Trunk:
    size = config.trunk(modality)
    return Trunk(
        size.width,
        size.blocks,
        size.heads,
        config.mlp_ratio,
        bias_kv=modality not in ("vision", "text"),
        pre_norm=modality == "vision",
        causal=modality == "text",
    )


def _build_head(config: ImageBindConfig, modality: str) -> nn.Module:
    width = config.trunk(modality).width
    if modality == "text":
        return TextHead(width, config.out_dim)
    return PatchHead(width, config.out_dim, place=3 if modality == "imu" else 2)


def _split_clips(modality: str, tensor: Tensor, stem: Stem) -> tuple[Tensor, int]:
    """``"B [S] ..." -> ("(B S) *item_shape", S or 1)``, or ValueError with the shapes that would do."""
    items, clips = tensor, 1
    # As in the original: from five axes on the second one counts clips.
    if tensor.ndim >= 5:
        items, clips = tensor.flatten(0, 1), tensor.shape[1]
    if isinstance(stem, VisionStem):
        if items.ndim == 4:
            items = items.unsqueeze(2)
        if items.ndim == 5 and items.shape[2] == 1:
            items = items.expand(-1, -1, stem.frames, -1, -1)
    if tuple(items.shape[1:]) != stem.item_shape or items.numel() == 0:
        still = f" or one still image {(3, *stem.item_shape[2:])}" if isinstance(stem, VisionStem) else ""
        raise ValueError(
            f"ImageBind cannot encode {modality} of shape {tuple(tensor.shape)}: after a batch axis (and, for a tensor "
            f"of five or more axes, a clip axis) it takes items of shape {stem.item_shape}{still}; "
            "prepare the input with nodes.nextgpt.model.preprocess"
        )
    if isinstance(stem, TextStem):
        if items.is_floating_point():
            raise ValueError(f"ImageBind text takes integer token ids, got {items.dtype}; pass the tokenizer's ids")
        items = items.long()
    return items, clips
