"""Load any causal language model of Hugging Face from its folder, and teach it where its signal tokens are."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from graph_engine import LanguageModel, NodeContext, NodeError, Widget, node
from graph_engine.models.spec import ModelSpec
from nodes.nextgpt.families import LANGUAGE_MODEL
from nodes.nextgpt.load import CATEGORY
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model_folder import FILES, folder_in, read_causal, weight_files

MOST_SIGNALS = 256
DEFAULT_SIGNALS = ", ".join(f"{row.name} {row.signals}" for row in SPOKEN.values())


def _reads(literals: Mapping[str, Any]) -> list[str]:
    """The files with fixed names, the shards, and the folder itself, whose time changes when something is put into it."""
    folder = str(literals.get("folder", ""))
    if not folder:
        return []
    return [folder, *(f"{folder}/{name}" for name in FILES), f"{glob.escape(folder)}/*.safetensors"]


@node(id="nextgpt.load_causal_lm", title="Load a causal language model", category=CATEGORY, reads=_reads)
def load_causal_lm(
    context: NodeContext,
    folder: str,
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    weights: Literal["full", "int8", "int4"] = "full",
    template: Literal["legacy", "current", "model"] = "current",
    spelling: Literal["legacy", "current"] = "current",
    signals: Annotated[str, Widget(label="signal tokens")] = DEFAULT_SIGNALS,
    wrap: Annotated[bool, Widget(label="wrap media")] = False,
) -> LanguageModel:
    """Any causal language model of Hugging Face (Llama, Vicuna, Qwen, Mistral, GPT-NeoX ...) from its folder.

    folder: under the models folder, with config.json, safetensors and tokenizer.json or tokenizer.model. dtype: `auto`
    is that of the files. weights: `int8` and `int4` need the extra `quant`. template: how prompts are laid out; `model`
    is the chat template in the folder. signals: how many signal tokens each modality has; they follow the model's own
    tokens, beginning as the mean of those, unless its tokenizer has them already. wrap: a pair of tokens around media.
    """
    from nodes.nextgpt.model.language import LanguageConfig
    from nodes.nextgpt.words import folder_tokenizer

    found = read_causal(folder_in(context.models_dir, folder))
    counts = _counts(signals)
    rows = int(found.options["vocab_size"])
    extras: dict[str, Any] = {
        "tokenizer": folder,
        "spelling": spelling,
        "template": template,
        "signals": counts,
        "wrap": wrap,
        "stop_ids": list(found.stop_ids),
    }
    tokenizer = folder_tokenizer(folder, context.models_dir)
    if template == "model" and tokenizer.chat_template is None:
        raise NodeError(
            f"the folder {folder!r} has no chat template.",
            remedy="Choose the template current or legacy.",
            code="no_chat_template",
            port="template",
        )
    first, known = _first_signal(tokenizer, extras, rows)
    extras["first_signal"] = first
    size = max(rows, first + sum(counts.values()) + (2 if wrap else 0))
    if known and size > rows:
        raise NodeError(
            f"the tokenizer of {folder!r} has signal tokens up to id {size - 1}, but the model has {rows} tokens.",
            remedy="Take tokenizer and weights from one checkpoint, and as many signal tokens as it was trained with.",
            code="vocabulary_mismatch",
            port="signals",
        )
    options = {**found.options, "vocab_size": size}
    config = LanguageConfig(found.model_type, options, rows if size > rows else None, weights)
    return ModelSpec(
        LANGUAGE_MODEL,
        config.to_json(),
        weight_files(found.path),
        found.dtype if dtype == "auto" else dtype,
        extras,
    )


def _counts(text: str) -> dict[str, int]:
    """`"image 4, video 24"` as numbers by modality; none at all is a model that only speaks."""
    counts: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        matched = re.fullmatch(r"(\w+)\s*[=: ]\s*(\d+)", entry)
        name, count = (matched[1], int(matched[2])) if matched else ("", 0)
        if name not in SPOKEN or name in counts or count > MOST_SIGNALS:
            raise NodeError(
                f"{entry!r} says not how many signal tokens a modality has.",
                remedy=f"Write {DEFAULT_SIGNALS!r}: each of {', '.join(SPOKEN)} once, at most {MOST_SIGNALS} tokens.",
                code="bad_signals",
                port="signals",
            )
        if count:
            counts[name] = count
    return counts


def _first_signal(tokenizer: Any, extras: Mapping[str, Any], rows: int) -> tuple[int, bool]:
    """Where the signal tokens begin, and whether the tokenizer said so: one that was trained with them has them."""
    from nodes.nextgpt.words import vocabulary_of

    texts = vocabulary_of({**extras, "first_signal": 0}, 0).text_of()
    begin = tokenizer.id_of(texts[0]) if texts else None
    return (max(rows, tokenizer.size), False) if begin is None else (begin, True)
