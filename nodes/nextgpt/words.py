"""Which tokenizer and which signal tokens belong to a model: its spec says it, this file reads it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph_engine.errors import ModelError
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.signals import SignalVocabulary

if TYPE_CHECKING:
    from nodes.nextgpt.model.tokenizer import Tokenizer


def tokenizer_of(extras: Mapping[str, Any], models_dir: Path, vocabulary: SignalVocabulary | None = None) -> Tokenizer:
    """`extras["tokenizer"]` is "tiny" or a folder under the models folder. Raises ModelError when it is not there."""
    from nodes.nextgpt.model.tokenizer import Tokenizer, TokenizerError

    name = extras.get("tokenizer", "tiny")
    if name == "tiny":
        return _tiny()
    try:
        return Tokenizer.from_folder(models_dir / name, vocabulary)
    except TokenizerError as error:
        raise ModelError(
            f"the tokenizer of the model cannot be read: {error}.",
            remedy=f"Put tokenizer.json and tokenizer_config.json into {models_dir / name}.",
            code="tokenizer_missing",
        ) from error


def vocabulary_of(extras: Mapping[str, Any], tokenizer_size: int) -> SignalVocabulary:
    """The signal tokens of a language model; they follow its ordinary tokens unless the spec says where they begin."""
    counts = {name: SPOKEN[name].signals for name in extras.get("speaks", SPOKEN)}
    return SignalVocabulary.create(extras.get("first_signal", tokenizer_size), extras.get("spelling", "legacy"), counts)


@lru_cache(maxsize=1)
def _tiny() -> Tokenizer:
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return Tokenizer.tiny()
