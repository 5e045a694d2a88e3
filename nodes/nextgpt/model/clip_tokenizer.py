"""CLIP's byte-pair tokens, which ImageBind's text trunk reads (Radford et al. 2021, arXiv 2103.00020, section 2.4).

The vocabulary is a file of the models folder, in any of the forms in which it is published:

* ``bpe_simple_vocab_16e6.txt.gz``: the merges, beside the published ImageBind and CLIP code;
* ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``: a CLIP folder of Hugging Face.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY = 49_408
START, END = "<|startoftext|>", "<|endoftext|>"

# Contractions, runs of letters, single digits, runs of other signs.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_END = "</w>"


class ClipTokenizerError(ValueError):
    """The vocabulary is missing or damaged; the message says which file and what to do."""


class ClipTokenizer:
    """Ids of a text. ``start_id`` and ``end_id`` are the two control tokens, of which the end has the largest id."""

    def __init__(self, backend: Backend) -> None:
        """Raises ClipTokenizerError if the vocabulary lacks a control token."""
        self._backend = backend
        # A text which spells a control token is encoded as the characters it has.
        backend.encode_special_tokens = True
        self.start_id, self.end_id = self._control(START), self._control(END)

    @classmethod
    def from_folder(cls, folder: Path) -> ClipTokenizer:
        """Reads the vocabulary of a folder; raises ClipTokenizerError if it has none or one that cannot be read."""
        from tokenizers import Tokenizer as Backend

        packed, whole, vocabulary, merges = (
            folder / name for name in (MERGES_FILE, "tokenizer.json", "vocab.json", "merges.txt")
        )
        try:
            if packed.is_file():
                return cls.from_merges(gzip.decompress(packed.read_bytes()).decode())
            if whole.is_file():
                return cls(Backend.from_str(whole.read_text(encoding="utf-8")))
            if vocabulary.is_file() and merges.is_file():
                table = json.loads(vocabulary.read_text(encoding="utf-8"))
                return cls(_backend(table, _pairs(merges.read_text(encoding="utf-8"))))
        except ClipTokenizerError:
            raise
        except Exception as error:  # the tokenizers library raises plain Exceptions
            raise ClipTokenizerError(f"the CLIP vocabulary in {folder} is damaged: {error}; fetch it again") from error
        raise ClipTokenizerError(
            f"{folder} has no CLIP vocabulary; put {MERGES_FILE}, tokenizer.json or vocab.json and merges.txt there"
        )

    @classmethod
    def from_merges(cls, text: str, size: int = VOCABULARY) -> ClipTokenizer:
        """From the published list of merges, of which the first that make ``size`` tokens count.

        Ids: 256 bytes, the same at the end of a word, one per merge, start, end.
        """
        letters = _letters()
        pairs = _pairs(text)[: size - 2 * len(letters) - 2]
        tokens = [*letters, *(letter + WORD_END for letter in letters), *map("".join, pairs), START, END]
        return cls(_backend({token: place for place, token in enumerate(tokens)}, pairs))

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, begun by ``start_id``; `pad_text_ids` cuts, ends and pads them."""
        return [self.start_id, *self._backend.encode(clean(text), add_special_tokens=False).ids]

    def _control(self, token: str) -> int:
        found = self._backend.token_to_id(token)
        if found is None:
            raise ClipTokenizerError(f"the vocabulary has no {token}; it is not that of CLIP: take CLIP's own")
        return int(found)


def clean(text: str) -> str:
    """As CLIP was trained: broken encodings and typographic quotes mended, HTML unescaped, one space, lower case."""
    from ftfy import fix_text

    return re.sub(r"\s+", " ", html.unescape(html.unescape(fix_text(text)))).strip().lower()


def _backend(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    from tokenizers import Regex
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    backend = Backend(BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=END))
    backend.pre_tokenizer = Sequence(
        [Split(Regex(WORDS), behavior="removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return backend


def _pairs(text: str) -> list[tuple[str, str]]:
    """The merges of a list whose first line says its version."""
    pairs = []
    for line in text.split("\n")[1:]:
        parts = line.split()
        if len(parts) == 2:
            pairs.append((parts[0], parts[1]))
    return pairs


def _letters() -> list[str]:
    """A visible letter for each byte, in the order of the published ids: printable bytes first, the others after."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*map(chr, printable), *(chr(0x100 + place) for place in range(0x100 - len(printable)))]
