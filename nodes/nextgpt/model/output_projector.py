"""From signal-token states of the language model to the condition of a decoder (NExT-GPT, arXiv 2309.05519, section 4).

Canonical parameter names are those of the 2024 code: ``in_fc``, ``tfm``, ``out_fc``, ``query_embs``.  The published
2023 weights say ``fc`` and ``model``; `canonical_state` translates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nodes.nextgpt.model.qformer import CrossLayer, SelfLayer

T = TypeVar("T")

MODES: tuple[str, ...] = ("transformer", "linear", "qformer")

# Zeros (the 2024 default) make all queries equal, and without positions nothing but the caption loss ever parts them.
# At least 0.02 is needed; a little more, so that what is drawn does not fall below it by chance.
QUERY_STD = 0.03

LEGACY_PREFIXES: Mapping[str, str] = {
    "image": "gen_text_hidden_fcs.0.",
    "video": "gen_text_hidden_fcs_video.0.",
    "audio": "gen_text_hidden_fcs_audio.0.",
}
CURRENT_PREFIXES: Mapping[str, str] = {
    "image": "mm_output_img_projector.",
    "video": "mm_output_vid_projector.",
    "audio": "mm_output_aud_projector.",
}


@dataclass(frozen=True)
class OutputProjectorConfig:
    """Sizes of an output projector; the defaults are those of the video decoder.

    ``queries`` rows of ``out_dim`` come out.  Mode "qformer" uses ``qformer_width``, ``qformer_heads`` and
    ``qformer_layers`` (BERT-base's, with two layers); mode "transformer" the others; mode "linear" neither.
    """

    mode: str = "transformer"
    in_dim: int = 4096
    out_dim: int = 1024
    queries: int = 77
    width: int = 512
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 4
    feed_forward: int = 2048
    dropout: float = 0.0
    qformer_width: int = 768
    qformer_heads: int = 12
    qformer_layers: int = 2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"output projector mode {self.mode!r} does not exist; choose one of {list(MODES)}")
        if min(self.in_dim, self.out_dim, self.queries) < 1:
            raise ValueError(f"output projector sizes must be positive, got {self}")
        if self.width % self.heads or self.qformer_width % self.qformer_heads:
            raise ValueError(f"output projector widths must be multiples of their numbers of heads, got {self}")

    @classmethod
    def for_image_sd15(cls) -> OutputProjectorConfig:
        """77 x 768 for Stable Diffusion 1.5: 31,958,784 parameters."""
        return cls(out_dim=768)

    @classmethod
    def for_image_sd2(cls) -> OutputProjectorConfig:
        """77 x 1024 for Stable Diffusion 2: 32,090,112 parameters."""
        return cls(out_dim=1024)

    @classmethod
    def for_video(cls) -> OutputProjectorConfig:
        """77 x 1024 for Zeroscope: 32,090,112 parameters."""
        return cls(out_dim=1024)

    @classmethod
    def for_audio(cls) -> OutputProjectorConfig:
        """One row of 512 for AudioLDM: 31,788,544 parameters."""
        return cls(out_dim=512, queries=1)

    @classmethod
    def tiny(
        cls, mode: str = "transformer", *, in_dim: int = 32, out_dim: int = 32, queries: int = 77
    ) -> OutputProjectorConfig:
        """Test size of any mode: width 32, one layer of each kind."""
        return cls(
            mode,
            in_dim,
            out_dim,
            queries,
            width=32,
            encoder_layers=1,
            decoder_layers=1,
            feed_forward=64,
            qformer_width=32,
            qformer_heads=4,
            qformer_layers=1,
        )

    @classmethod
    def of_shapes(
        cls, shapes: Mapping[str, Sequence[int]], heads: int | None = None, rows: int = 77
    ) -> OutputProjectorConfig:
        """Mode and sizes of the projector whose state dict has these canonical names and shapes.

        The number of heads shows in no shape (None: 4, and 12 for a Q-former), nor do the ``rows`` of mode "linear".
        Raises ValueError for names of no projector.
        """
        if set(shapes) == {"out_fc.weight", "out_fc.bias"}:
            out_dim, in_dim = shapes["out_fc.weight"]
            return cls("linear", in_dim, out_dim, rows)
        layers = {tuple(key.split(".")[:4]) for key in shapes if "layers." in key}
        if {"in_fc.weight", "query_embs"} <= set(shapes):
            width, in_dim = shapes["in_fc.weight"]
            return cls(
                "transformer",
                in_dim,
                shapes["out_fc.weight"][0],
                shapes["query_embs"][1],
                width=width,
                heads=heads or 4,
                encoder_layers=sum(key[:2] == ("tfm", "encoder") for key in layers),
                decoder_layers=sum(key[:2] == ("tfm", "decoder") for key in layers),
                feed_forward=shapes["tfm.encoder.layers.0.linear1.weight"][0],
            )
        if {"layers.0.cross.key.weight", "query_embs"} <= set(shapes):
            width, in_dim = shapes["layers.0.cross.key.weight"]
            return cls(
                "qformer",
                in_dim,
                shapes["out_fc.weight"][0],
                shapes["query_embs"][1],
                qformer_width=width,
                qformer_heads=heads or 12,
                qformer_layers=len({key[1] for key in layers}),
            )
        raise ValueError(
            f"no output projector has entries like {sorted(shapes)[:3]}; choose a file of a transformer, linear or "
            "qformer projector"
        )

    def row_count(self, signals: int) -> int:
        """Condition rows for ``signals`` signal tokens; mode "linear" cannot invent rows, it only drops the surplus."""
        return min(signals, self.queries) if self.mode == "linear" else self.queries

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OutputProjectorConfig:
        """The inverse of `to_dict`; missing entries take their defaults, unknown ones raise ValueError."""
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f"output projector config has no entries {unknown}; it has {names}")
        return cls(**values)


class OutputProjector(nn.Module):
    """``OutputProjector(config)`` is the projector of ``config.mode``.

    Called with the last-layer states of the n signal tokens and with those tokens' own input embeddings, both
    ``"B n in"``, it returns the condition ``"B Nq out"`` (mode "linear": ``"B min(n, Nq) out"``).
    """

    config: OutputProjectorConfig

    def __new__(cls, config: OutputProjectorConfig | None = None) -> OutputProjector:
        # As in InputProjector: the mode decides on the class, and a copied module arrives without a config.
        if cls is OutputProjector and config is not None:
            cls = _CLASSES[config.mode]
        return super().__new__(cls)

    def __init__(self, config: OutputProjectorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, hidden: Tensor, embeds: Tensor) -> Tensor:
        if (
            hidden.ndim != 3
            or hidden.shape[-1] != self.config.in_dim
            or hidden.shape != embeds.shape
            or 0 in hidden.shape
        ):
            raise ValueError(
                f"output projector ({self.config.mode}) takes hidden states and embeddings of one shape "
                f"'B n {self.config.in_dim}', got {tuple(hidden.shape)} and {tuple(embeds.shape)}; the language "
                "model's width and the projector's in_dim must be the same, and at least one signal token must be there"
            )
        return self.project(hidden + embeds)

    def project(self, x: Tensor) -> Tensor:
        """The mapping of the sum; `forward` has checked the shapes."""
        raise NotImplementedError


class LinearOutput(OutputProjector):
    """One linear layer per row."""

    def __init__(self, config: OutputProjectorConfig) -> None:
        super().__init__(config)
        self.out_fc = nn.Linear(config.in_dim, config.out_dim)

    def project(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_fc(x[:, : self.config.queries])
        return out


class TransformerOutput(OutputProjector):
    """A pre-norm encoder-decoder whose decoder input is learned queries; no position code anywhere."""

    def __init__(self, config: OutputProjectorConfig) -> None:
        super().__init__(config)
        self.in_fc = nn.Linear(config.in_dim, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feed_forward, config.dropout, batch_first=True, norm_first=True
        )
        # torch's own default asks for nested tensors, which pre-norm layers cannot use, and warns about itself.
        encoder = nn.TransformerEncoder(
            layer, config.encoder_layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.tfm = nn.Transformer(
            config.width,
            config.heads,
            num_decoder_layers=config.decoder_layers,
            dim_feedforward=config.feed_forward,
            dropout=config.dropout,
            custom_encoder=encoder,
            batch_first=True,
            norm_first=True,
        )
        self.out_fc = nn.Linear(config.width, config.out_dim)
        self.query_embs = learned_queries(config.queries, config.width)

    def project(self, x: Tensor) -> Tensor:
        queries = self.query_embs.expand(x.shape[0], -1, -1)
        out: Tensor = self.out_fc(self.tfm(self.in_fc(x), queries))
        return out


class QFormerOutput(OutputProjector):
    """BERT layers without feed-forward, word or position embeddings: queries see each other and the signals."""

    def __init__(self, config: OutputProjectorConfig) -> None:
        super().__init__(config)
        width, heads = config.qformer_width, config.qformer_heads
        self.query_embs = learned_queries(config.queries, width)
        self.query_norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"self": SelfLayer(width, heads), "cross": CrossLayer(width, heads, config.in_dim)})
            for _ in range(config.qformer_layers)
        )
        self.out_fc = nn.Linear(width, config.out_dim)

    def project(self, x: Tensor) -> Tensor:
        queries = self.query_norm(self.query_embs).expand(x.shape[0], -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            queries = layer["cross"](layer["self"](queries), x)
        out: Tensor = self.out_fc(queries)
        return out


_CLASSES: Mapping[str, type[OutputProjector]] = {
    "transformer": TransformerOutput,
    "linear": LinearOutput,
    "qformer": QFormerOutput,
}


def learned_queries(count: int, width: int) -> nn.Parameter:
    """Queries ``"1 N D"`` drawn from N(0, 0.03^2)."""
    queries = nn.Parameter(torch.empty(1, count, width))
    nn.init.normal_(queries, std=QUERY_STD)
    return queries


def canonical_state(state: Mapping[str, T], prefix: str = "") -> dict[str, T]:
    """The entries under ``prefix`` (see `LEGACY_PREFIXES`, `CURRENT_PREFIXES`), renamed to the canonical names.

    Takes the legacy names (``fc.* -> in_fc.*``, ``model.* -> out_fc.*``), a bare linear layer (``weight``, ``bias``)
    and canonical names alike; canonical names come back unchanged.  Raises ValueError if nothing has the prefix.
    """
    renamed: dict[str, T] = {}
    for key, value in state.items():
        if not key.startswith(prefix):
            continue
        head, dot, rest = key[len(prefix) :].partition(".")
        if not dot and head in ("weight", "bias"):
            renamed[f"out_fc.{head}"] = value
        else:
            renamed[{"fc": "in_fc", "model": "out_fc"}.get(head, head) + dot + rest] = value
    if not renamed:
        raise ValueError(
            f"checkpoint has no output projector under {prefix!r}; its {len(state)} keys begin like "
            f"{sorted(state)[:3]}: choose the file or the prefix of the modality"
        )
    return renamed
