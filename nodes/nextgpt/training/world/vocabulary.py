"""The vocabulary of the mini models: the words of the world, whole, and characters and bytes for all else.

    python -m nodes.nextgpt.training.world.vocabulary        writes nodes/nextgpt/model/mini_tokenizer.json

Fewest tokens win (a Unigram model whose words all score alike), so a word of the world is one token wherever it stands,
and any other text still comes back as it was.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from nodes.nextgpt.model.prompts import CURRENT
from nodes.nextgpt.model.tokenizer import MINI_PATH
from nodes.nextgpt.training.world import terms
from nodes.nextgpt.training.world.talk import KINDS, Talker

_CONTROLS = ("<unk>", "<s>", "</s>")
_WORD, _CHARACTER = -1.0, -3.0
"""Scores. Two words are better than one character."""


def words() -> list[str]:
    """Every word of talks and templates: English ones with the space before them too, Chinese ones of the tables."""
    found: set[str] = set()
    chinese = {spoken for table in _tables() for entry in table.values() for spoken in entry["zh"]}
    characters: set[str] = {chr(code) for code in range(32, 127)} | {"\n"}
    for text in _texts():
        found |= set(re.findall(r" ?[A-Za-z]+", text))
        characters |= set(text)
        for stretch in re.findall(r"[\u4e00-\u9fff]+", text):
            for spoken in sorted(chinese, key=len, reverse=True):
                stretch = stretch.replace(spoken, " ")
            found |= {piece for piece in stretch.split() if len(piece) <= 8}
    found |= chinese
    found |= {f" {word}" for word in found if word.isascii() and not word.startswith(" ")}
    return sorted(characters - found) + sorted(found)


def definition() -> dict[str, Any]:
    """The contents of a tokenizer.json: 0 unknown, 1 begin, 2 end, 3-258 bytes, then characters and words."""
    vocabulary: list[list[Any]] = [[name, 0.0] for name in _CONTROLS]
    vocabulary += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    vocabulary += [[entry, _CHARACTER if len(entry) == 1 else _WORD] for entry in words()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": vocabulary},
    }


def _tables() -> list[Any]:
    return [
        table
        for name, table in vars(terms).items()
        if name.isupper() and isinstance(table, dict) and all(isinstance(entry, dict) for entry in table.values())
    ]


def _texts() -> list[str]:
    """Enough talks of each kind and language that every pattern and word has been said."""
    talker = Talker(random.Random(0))
    texts = [CURRENT.system, *(text for _, text in (*CURRENT.openings, *CURRENT.closings))]
    for kind in KINDS:
        if kind == "together":
            continue  # says what the others say, in one breath
        for language in terms.LANGUAGES:
            for _ in range(400):
                talk = talker.talk(kind, language)
                texts += [part for turn in talk.turns for part in turn.parts if isinstance(part, str)]
    return [*texts, *(spoken for table in _tables() for entry in table.values() for spoken in entry["en"])]


if __name__ == "__main__":
    MINI_PATH.write_text(json.dumps(definition(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{MINI_PATH}: {len(definition()['model']['vocab'])} tokens")
