"""Which tokenizer, signal tokens and prompt layout belong to a model: its spec says it, this file reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph_engine.errors import ModelError
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.signals import SPELLINGS, SignalVocabulary

if TYPE_CHECKING:
    from nodes.nextgpt.model.prompts import PromptTemplate
    from nodes.nextgpt.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Words:
    """How a model reads and speaks. layout: None means its own chat template. stop: what ends an answer."""

    tokenizer: Tokenizer
    vocabulary: SignalVocabulary
    layout: PromptTemplate | None
    stop: tuple[int | tuple[int, ...], ...]


def words_of(extras: Mapping[str, Any], models_dir: Path, template: str = "auto") -> Words:
    """From the extras of a language model's spec. Raises ModelError when its tokenizer is not there.

    tokenizer     "tiny", "mini", or a folder under the models folder
    spelling      how its signal tokens are spelled; `signals` how many each modality has; `first_signal` where they begin
    template      "legacy", "current" or "model"
    wrap          whether media stand between wrap tokens; as the spelling and the template have it, if not said
    stop_ids      further tokens, or lists of tokens, that end an answer
    """
    from nodes.nextgpt.model.prompts import TEMPLATES, stop_ids

    if "first_signal" in extras:
        vocabulary = vocabulary_of(extras, 0)
        tokenizer = tokenizer_of(extras, models_dir, vocabulary)
    else:
        tokenizer = tokenizer_of(extras, models_dir)
        vocabulary = vocabulary_of(extras, tokenizer.size)
    name = extras.get("template", "legacy") if template == "auto" else template
    layout = None if name == "model" else TEMPLATES[name]
    if layout is not None and "wrap" in extras:
        layout = replace(layout, wrap=bool(extras["wrap"]))
    more = [tuple(entry) if isinstance(entry, list) else int(entry) for entry in extras.get("stop_ids", ())]
    return Words(tokenizer, vocabulary, layout, tuple(dict.fromkeys([*stop_ids(layout, tokenizer), *more])))


def tokenizer_of(extras: Mapping[str, Any], models_dir: Path, vocabulary: SignalVocabulary | None = None) -> Tokenizer:
    """`extras["tokenizer"]` is "tiny", "mini" or a folder under the models folder. Raises ModelError when it is not
    there."""
    name = extras.get("tokenizer", "tiny")
    shipped = _shipped(name)
    return folder_tokenizer(name, models_dir, vocabulary) if shipped is None else shipped


def folder_tokenizer(name: str, models_dir: Path, vocabulary: SignalVocabulary | None = None) -> Tokenizer:
    """The tokenizer in a folder under the models folder. Raises ModelError that says which files are looked for."""
    from nodes.nextgpt.model.tokenizer import TokenizerError
    from nodes.nextgpt.model_folder import TOKENIZER

    folder = models_dir / name
    try:
        files = [folder / file for file in (*TOKENIZER, "chat_template.jinja")]
        stamp = tuple((path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for path in files)
        return _from_folder(folder, stamp, json.dumps(vocabulary.to_json()) if vocabulary is not None else "")
    except TokenizerError as error:
        reason, _, remedy = str(error).partition("; ")
        raise ModelError(
            f"the tokenizer of the model cannot be read: {reason}.",
            remedy=f"{remedy[0].upper()}{remedy[1:]}."
            if remedy
            else f"Put tokenizer.json (or tokenizer.model) and tokenizer_config.json into {folder}.",
            code="tokenizer_missing",
        ) from error


def vocabulary_of(extras: Mapping[str, Any], tokenizer_size: int) -> SignalVocabulary:
    """The signal tokens of a language model; they follow its ordinary tokens unless the spec says where they begin."""
    counts = extras.get("signals")
    if counts is None:
        counts = {name: SPOKEN[name].signals for name in extras.get("speaks", SPOKEN)}
    first, spelling = extras.get("first_signal", tokenizer_size), extras.get("spelling", "legacy")
    pair = bool(SPELLINGS[spelling]["wrap"])
    wrap = extras.get("wrap", pair)
    if wrap == pair:
        return SignalVocabulary.create(first, spelling, counts)
    if not wrap:
        return replace(SignalVocabulary.create(first - 2, spelling, counts), wrap=None, wrap_texts=None)
    vocabulary = SignalVocabulary.create(first + 2, spelling, counts)
    return replace(vocabulary, wrap=(first, first + 1), wrap_texts=SPELLINGS["legacy"]["wrap"])


@lru_cache(maxsize=4)
def _shipped(name: str) -> Tokenizer | None:
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return Tokenizer.shipped(name)


@lru_cache(maxsize=4)
def _from_folder(folder: Path, stamp: Any, vocabulary: str) -> Tokenizer:
    """Large vocabularies take seconds to read; the same files give the same tokenizer. `vocabulary`: JSON or ""."""
    from nodes.nextgpt.model.tokenizer import Tokenizer

    return Tokenizer.from_folder(folder, SignalVocabulary.from_json(json.loads(vocabulary)) if vocabulary else None)
