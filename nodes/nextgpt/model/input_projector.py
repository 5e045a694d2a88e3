"""From encoder embeddings to tokens of the language model (NExT-GPT, arXiv 2309.05519, section 3).

Four modes behind one class.  Inner parameter names carry no prefix: what a checkpoint calls ``llama_proj.weight`` or
``mm_input_projector.in_fc.weight`` is ``weight`` or ``in_fc.weight`` here; `select_state` removes the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from nodes.nextgpt.model.group_projector import Stage

T = TypeVar("T")

MODES: tuple[str, ...] = ("linear", "mlp", "group", "identity")

LEGACY_PREFIX = "llama_proj."  # the 2023 code; always linear
CURRENT_PREFIX = "mm_input_projector."


@dataclass(frozen=True)
class InputProjectorConfig:
    """Sizes of an input projector; the defaults are those for ImageBind-huge and a 7B Vicuna.

    ``mlp_layers`` belongs to mode "mlp"; all below it to mode "group": one stage per entry of ``stage_depths``, of
    which the first ``len(group_tokens)`` end in a grouping.
    """

    mode: str = "linear"
    in_dim: int = 1024
    out_dim: int = 4096
    mlp_layers: int = 2
    width: int = 512
    heads: int = 8
    mlp_ratio: int = 4
    stage_depths: tuple[int, ...] = (6, 3, 3)
    group_tokens: tuple[int, ...] = (64, 8)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"input projector mode {self.mode!r} does not exist; choose one of {list(MODES)}")
        if self.mode == "identity" and self.in_dim != self.out_dim:
            raise ValueError(
                f"input projector mode 'identity' cannot map width {self.in_dim} to {self.out_dim}; "
                "make them equal or choose 'linear'"
            )
        if self.mode == "mlp" and self.mlp_layers < 1:
            raise ValueError(f"input projector mode 'mlp' needs at least 1 layer, got mlp_layers={self.mlp_layers}")
        if self.mode == "group":
            if self.width % self.heads:
                raise ValueError(f"input projector width {self.width} is not a multiple of {self.heads} heads")
            if not 1 <= len(self.group_tokens) <= len(self.stage_depths) or min(self.group_tokens) < 1:
                raise ValueError(
                    f"input projector mode 'group' needs one positive entry of group_tokens per grouping stage, at "
                    f"least one and at most {len(self.stage_depths)}; got {self.group_tokens}"
                )

    @classmethod
    def tiny(cls, mode: str = "linear", *, in_dim: int = 32, out_dim: int = 48) -> InputProjectorConfig:
        """Test size of any mode: width 32, stages of one block, 6 then 3 groups."""
        return cls(mode, in_dim, out_dim, width=32, heads=4, stage_depths=(1, 1, 1), group_tokens=(6, 3))

    @classmethod
    def of_shapes(cls, shapes: Mapping[str, Sequence[int]], heads: int = 8) -> InputProjectorConfig:
        """Mode and sizes of the projector whose state dict has these names (without a prefix) and shapes.

        The number of heads shows in no shape.  Raises ValueError for names of no projector.
        """
        if set(shapes) == {"weight", "bias"}:
            out_dim, in_dim = shapes["weight"]
            return cls("linear", in_dim, out_dim)
        if "0.weight" in shapes:
            out_dim, in_dim = shapes["0.weight"]
            return cls("mlp", in_dim, out_dim, mlp_layers=sum(key.endswith(".weight") for key in shapes))
        if {"in_fc.weight", "out_fc.weight", "layers.0.group_token"} <= set(shapes):
            width, in_dim = shapes["in_fc.weight"]
            stages = sorted({int(key.split(".")[1]) for key in shapes if key.startswith("layers.")})
            blocks = {tuple(key.split(".")[1:4:2]) for key in shapes if ".blocks." in key}
            tokens = [shapes[key][1] for stage in stages if (key := f"layers.{stage}.group_token") in shapes]
            return cls(
                "group",
                in_dim,
                shapes["out_fc.weight"][0],
                width=width,
                heads=heads,
                mlp_ratio=shapes["layers.0.blocks.0.mlp.fc1.weight"][0] // width,
                stage_depths=tuple(sum(stage == str(number) for stage, _ in blocks) for number in stages),
                group_tokens=tuple(tokens),
            )
        raise ValueError(
            f"no input projector has entries like {sorted(shapes)[:3]}; choose a file of a linear, mlp or group projector"
        )

    def token_count(self, features: int) -> int:
        """How many language-model tokens ``features`` embedding rows become."""
        return self.group_tokens[-1] if self.mode == "group" else features

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return {**asdict(self), "stage_depths": list(self.stage_depths), "group_tokens": list(self.group_tokens)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputProjectorConfig:
        """The inverse of `to_dict`; missing entries take their defaults, unknown ones raise ValueError."""
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f"input projector config has no entries {unknown}; it has {names}")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)


class InputProjector(nn.Module):
    """``InputProjector(config)`` is the projector of ``config.mode``; calling it maps ``"B N in" -> "B M out"``.

    M is `InputProjectorConfig.token_count` of N: the last of `group_tokens` for "group" whatever N is, else N.
    """

    config: InputProjectorConfig

    def __new__(cls, config: InputProjectorConfig | None = None) -> InputProjector:
        # Asked for by the general name, the mode decides on the class, so that state dicts have no wrapper's prefix.
        # A copy of a module comes here with its own class and no config.
        if cls is InputProjector and config is not None:
            cls = _CLASSES[config.mode]
        return super().__new__(cls)

    def __init__(self, config: InputProjectorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, embedding: Tensor) -> Tensor:
        if embedding.ndim != 3 or embedding.shape[-1] != self.config.in_dim or 0 in embedding.shape:
            raise ValueError(
                f"input projector ({self.config.mode}) takes 'B N {self.config.in_dim}', got {tuple(embedding.shape)}; "
                "the encoder's width and the projector's in_dim must be the same"
            )
        return self.project(embedding)

    def project(self, x: Tensor) -> Tensor:
        """The mapping itself; `forward` has checked the shape."""
        raise NotImplementedError


class IdentityProjector(InputProjector):
    """No parameters."""

    def project(self, x: Tensor) -> Tensor:
        return x


class LinearProjector(InputProjector):
    """One linear layer with bias; the legacy ``llama_proj``."""

    def __init__(self, config: InputProjectorConfig) -> None:
        super().__init__(config)
        layer = nn.Linear(config.in_dim, config.out_dim)
        self.weight, self.bias = layer.weight, layer.bias

    def project(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class MlpProjector(InputProjector):
    """Linear layers with GELU between them, under the keys ``0, 2, 4, ...`` that a Sequential would give."""

    def __init__(self, config: InputProjectorConfig) -> None:
        super().__init__(config)
        for index in range(config.mlp_layers):
            width = config.out_dim if index else config.in_dim
            self.add_module(str(2 * index), nn.Linear(width, config.out_dim))

    def project(self, x: Tensor) -> Tensor:
        first, *rest = self.children()
        x = first(x)
        for layer in rest:
            x = layer(F.gelu(x))
        return x


class GroupProjector(InputProjector):
    """Groups any number of patches into a few tokens (see `group_projector`); no position code is added.

    Deterministic in eval mode, a sample in training mode.
    """

    def __init__(self, config: InputProjectorConfig) -> None:
        super().__init__(config)
        self.in_fc = nn.Linear(config.in_dim, config.width)
        plain = len(config.stage_depths) - len(config.group_tokens)
        groups = (*config.group_tokens, *([0] * plain))
        self.layers = nn.ModuleList(
            Stage(
                config.width,
                depth,
                config.heads,
                config.mlp_ratio,
                groups=count,
                previous=groups[index - 1] if index else 0,
                mixer_hidden=config.width // 2,
            )
            for index, (depth, count) in enumerate(zip(config.stage_depths, groups, strict=True))
        )
        self.norm = nn.LayerNorm(config.width)
        self.out_fc = nn.Linear(config.width, config.out_dim)

    def project(self, x: Tensor) -> Tensor:
        x, tokens = self.in_fc(x), None
        for stage in self.layers:
            x, tokens = stage(x, tokens)
        out: Tensor = self.out_fc(self.norm(x))
        return out


_CLASSES: Mapping[str, type[InputProjector]] = {
    "linear": LinearProjector,
    "mlp": MlpProjector,
    "group": GroupProjector,
    "identity": IdentityProjector,
}


def select_state(state: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The entries of a checkpoint under ``prefix``, without it.

    Raises ValueError if there is none, so that a wrong file is not taken for an empty projector.
    """
    chosen = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not chosen:
        raise ValueError(
            f"checkpoint has no entries under {prefix!r}; its {len(state)} keys begin like {sorted(state)[:3]}: "
            "choose the file or the prefix of the projector"
        )
    return chosen
