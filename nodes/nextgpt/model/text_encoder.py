"""The text encoders that the decoders were trained with: CLIP for pictures and films, CLAP for sounds.

A decoder's condition can be made from words by them, which is what signals were trained to imitate.

Sources: CLIP arXiv 2103.00020, CLAP arXiv 2211.06687.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

Kind = Literal["clip", "clap"]


@dataclass(frozen=True)
class TextEncoderConfig:
    """kind     "clip": the last states of all tokens, padded to `length`; "clap": one projected vector of unit length
    options  constructor arguments of transformers' CLIPTextConfig or ClapTextConfig
    length   most tokens of a text, begin and end included
    """

    kind: Kind
    options: Mapping[str, Any]
    length: int = 77

    def __post_init__(self) -> None:
        if self.kind not in ("clip", "clap"):
            raise ValueError(f"there is no text encoder {self.kind!r}, only clip and clap")

    @property
    def condition(self) -> tuple[int, int]:
        """Rows and width of the condition of one text."""
        return (
            (self.length, self.options["hidden_size"]) if self.kind == "clip" else (1, self.options["projection_dim"])
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TextEncoderConfig":
        return cls(**data)

    @classmethod
    def clip_l(cls) -> "TextEncoderConfig":
        """CLIP ViT-L/14, the text encoder of Stable Diffusion 1.5."""
        return cls("clip", _clip(768, 3072, layers=12, heads=12, activation="quick_gelu"))

    @classmethod
    def open_clip_h(cls) -> "TextEncoderConfig":
        """OpenCLIP ViT-H/14 without its last layer, the text encoder of Stable Diffusion 2 and zeroscope."""
        return cls("clip", _clip(1024, 4096, layers=23, heads=16, activation="gelu"))

    @classmethod
    def clap(cls) -> "TextEncoderConfig":
        """The text side of CLAP (RoBERTa base), the text encoder of AudioLDM."""
        return cls("clap", _clap(50_265, 768, 3072, layers=12, heads=12, pad=1, length=512), 512)

    @classmethod
    def tiny(cls, kind: Kind, width: int, vocabulary: int) -> "TextEncoderConfig":
        """The same build with one layer, for a vocabulary of this size; `width` of the condition is kept."""
        if kind == "clip":
            return cls("clip", _clip(width, 32, layers=1, heads=4, activation="gelu", vocabulary=vocabulary))
        return cls("clap", _clap(vocabulary, 32, 32, layers=1, heads=4, pad=0, length=77, width=width))


def _clip(
    hidden: int, inner: int, *, layers: int, heads: int, activation: str, vocabulary: int = 49_408
) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "hidden_act": activation,
        # The last two of the vocabulary, as in CLIP's own. Only a pooled output would need them.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def _clap(
    vocabulary: int, hidden: int, inner: int, *, layers: int, heads: int, pad: int, length: int, width: int = 512
) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        # Positions are counted from behind the id of the padding.
        "max_position_embeddings": length + pad + 1,
        "pad_token_id": pad,
        "projection_dim": width,
    }


class TextEncoder(nn.Module):
    """transformers' CLIPTextModel or ClapTextModelWithProjection as `model`; its keys with that prefix.

    Position numbers are in no file; `reset_buffers` makes them after a build on meta.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model: Any = _build(config)
        for name in self._counters():
            self._embeddings().register_buffer(name, getattr(self._embeddings(), name), persistent=False)
        self.eval()

    @classmethod
    def random(cls, config: TextEncoderConfig, seed: int) -> "TextEncoder":
        """Untrained weights that depend on nothing but `config` and `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def _embeddings(self) -> Any:
        return (self.model if self.config.kind == "clip" else self.model.text_model).embeddings

    def _counters(self) -> tuple[str, ...]:
        return ("position_ids",) if self.config.kind == "clip" else ("position_ids", "token_type_ids")

    def reset_buffers(self) -> None:
        """Give the position numbers their values, on the device of the weights."""
        embeddings = self._embeddings()
        device = next(self.parameters()).device
        for name in self._counters():
            length = getattr(embeddings, name).shape[-1]
            count = torch.arange(length, device=device) if name == "position_ids" else torch.zeros(length).to(device)
            setattr(embeddings, name, count.long().expand(1, -1))

    @torch.no_grad()
    def forward(self, ids: Sequence[int]) -> Tensor:
        """Token ids of one text, begin and end included, to its condition "1 rows width".

        Raises ValueError for more ids than `config.length`.
        """
        if len(ids) > self.config.length:
            raise ValueError(f"the text has {len(ids)} tokens, the encoder takes {self.config.length}")
        tokens = torch.tensor([list(ids)], device=next(self.parameters()).device)
        if self.config.kind == "clip":
            return self.model(input_ids=tokens).last_hidden_state
        return normalize(self.model(input_ids=tokens).text_embeds, dim=-1)[:, None]


def _build(config: TextEncoderConfig) -> Any:
    import transformers

    if config.kind == "clip":
        return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config.options))
    return transformers.ClapTextModelWithProjection(transformers.ClapTextConfig(**config.options))


def published_state(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Entries of a published file under our names: `model.` before those of transformers 5.

    CLIP files of before 2026 say `text_model.` first; files of a whole CLIP or CLAP also hold its other side, which is
    left out, as are position numbers, which are computed.
    """
    other_side = ("vision_model.", "visual_projection.", "audio_model.", "audio_projection.", "logit_scale")
    found = {}
    for key, tensor in state.items():
        key = key.removeprefix("model.")
        if key.startswith(other_side) or key.endswith(("position_ids", "token_type_ids")):
            continue
        if kind == "clip":
            key = key.removeprefix("text_model.")
            if key.startswith("text_projection."):
                continue
        found[f"model.{key}"] = tensor
    return found
