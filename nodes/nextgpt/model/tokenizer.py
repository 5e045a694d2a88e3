"""Text to ordinary token ids and back. Signal tokens never pass through here: they are ids from the start.

Two sources, one class: the small vocabulary shipped beside this file (readable English words, so that even an untrained
model speaks in words; byte fallback, so that any text round-trips) and the `tokenizer.json` of a real model's folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .signals import SignalVocabulary

TINY_PATH = Path(__file__).with_name("tiny_tokenizer.json")


class TokenizerError(ValueError):
    """A tokenizer folder is missing a file or does not fit the model; the message says which and what to do."""


class Tokenizer:
    """Ids of ordinary text. `bos_id`, `eos_id` are ids of the same vocabulary; `size` counts it without signal tokens.

    Text which merely looks like a control or signal token ("</s>", "[IMG0]") is encoded as the characters it is, so a
    user cannot speak in the model's name.
    """

    def __init__(self, definition: str, bos: str = "<s>", eos: str = "</s>") -> None:
        """`definition` is the text of a `tokenizer.json`. Raises TokenizerError if `bos` or `eos` is not in it."""
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_str(definition)
        self._backend.encode_special_tokens = True
        self.size: int = self._backend.get_vocab_size(with_added_tokens=True)
        self.bos_id = self._control(bos)
        self.eos_id = self._control(eos)

    def _control(self, token: str) -> int:
        found = self._backend.token_to_id(token)
        if found is None:
            raise TokenizerError(f"the vocabulary has no {token!r}; name the model's own begin and end tokens")
        return int(found)

    @classmethod
    def tiny(cls) -> "Tokenizer":
        """The shipped vocabulary: 0 unknown, 1 begin, 2 end, 3-258 bytes, then words, parts of words and characters."""
        return cls(TINY_PATH.read_text(encoding="utf-8"))

    @classmethod
    def from_folder(cls, folder: Path, vocabulary: SignalVocabulary | None = None) -> "Tokenizer":
        """Read `tokenizer.json` (and the begin and end tokens of `tokenizer_config.json`) of a model folder.

        Added tokens that spell signal tokens are dropped from the text rules; if the folder gives one of them another
        id than `vocabulary` does, that is a TokenizerError, as is a folder without `tokenizer.json`.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(
                f"{folder} has no tokenizer.json. A folder with only tokenizer.model needs converting once: "
                "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder) (install sentencepiece)"
            )
        definition = json.loads(path.read_text(encoding="utf-8"))
        if vocabulary is not None:
            definition = _without_signals(definition, vocabulary, path)
        config_path = folder / "tokenizer_config.json"
        config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else {}
        bos = _token_text(config.get("bos_token"), "<s>")
        eos = _token_text(config.get("eos_token"), "</s>")
        return cls(json.dumps(definition), bos, eos)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added at either end."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_marked(self, stretches: Sequence[tuple[str, bool]]) -> list[tuple[int, bool]]:
        """Ids of the joined stretches, each with the mark of the stretch in which it ends.

        Encoding stretches one by one would be another tokenisation: word boundaries would move.
        """
        marks = [mark for text, mark in stretches for _ in text]
        encoded = self._backend.encode("".join(text for text, _ in stretches), add_special_tokens=False)
        return [(i, marks[max(end - 1, 0)]) for i, (_, end) in zip(encoded.ids, encoded.offsets, strict=True)]

    def decode(self, ids: Sequence[int], signals: SignalVocabulary | None = None) -> str:
        """Text of `ids`; signal tokens read as their spelling if `signals` is given, else as nothing, like controls."""
        spelled = signals.text_of() if signals else {}
        parts: list[str] = []
        plain: list[int] = []
        for token in ids:
            if token in spelled or token >= self.size:
                parts += [self._plain(plain), spelled.get(token, "")]
                plain = []
            elif token not in (self.bos_id, self.eos_id):
                plain.append(token)
        return "".join([*parts, self._plain(plain)])

    def _plain(self, ids: Sequence[int]) -> str:
        return str(self._backend.decode(list(ids), skip_special_tokens=False)) if ids else ""

    def unreadable_ids(self, whole_words: bool = False) -> tuple[int, ...]:
        """What an untrained model should not be allowed to say: byte and control tokens except the end token.

        With `whole_words` also parts of words, so that only words and punctuation are left.
        """
        unreadable = []
        for token in range(self.size):
            piece = self._backend.id_to_token(token)
            if token == self.eos_id or piece is None:
                continue
            is_byte = len(piece) == 6 and piece.startswith("<0x")
            is_part = whole_words and (piece[0].isalnum() or piece[0] in "'_`~^" or piece == " ")
            if token == self.bos_id or piece == "<unk>" or is_byte or is_part:
                unreadable.append(token)
        return tuple(unreadable)


class TextStream:
    """Text of a growing answer, piece by piece; half a character (byte tokens) waits until it is whole.

    For whole characters `"".join(stream.push(i) for i in ids) + stream.flush()` equals `tokenizer.decode(ids)`.
    """

    def __init__(self, tokenizer: Tokenizer, signals: SignalVocabulary | None = None) -> None:
        self._tokenizer = tokenizer
        self._silent: frozenset[int] = frozenset(signals.ids()) if signals else frozenset()
        self._window: list[int] = []
        self._said = 0

    def push(self, token: int) -> str:
        """The text that `token` adds, "" while it is unfinished. A signal token ends a stretch of text."""
        if token in self._silent or token >= self._tokenizer.size:
            return self.flush()
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        if text.endswith("\ufffd"):
            return ""
        new, self._said = text[self._said :], len(text)
        # The last token stays as context: a decoder may strip the space of the very first word only. The last byte of a
        # character says nothing without the bytes before it, so there the window goes on growing.
        if len(self._window) > 16 and "\ufffd" not in (last := self._tokenizer.decode([token])):
            self._window, self._said = [token], len(last)
        return new

    def flush(self) -> str:
        """What is still held back, with replacement characters for broken bytes; then a new stretch begins."""
        new = self._tokenizer.decode(self._window)[self._said :]
        self._window, self._said = [], 0
        return new


def _token_text(entry: Any, default: str) -> str:
    """A token in tokenizer_config.json is a string or an object with `content`."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else default


def _without_signals(definition: dict[str, Any], vocabulary: SignalVocabulary, path: Path) -> dict[str, Any]:
    ids_by_text = {text: token for token, text in vocabulary.text_of().items()}
    kept = []
    for added in definition.get("added_tokens") or []:
        expected = ids_by_text.get(added["content"])
        if expected is None:
            kept.append(added)
        elif expected != added["id"]:
            raise TokenizerError(
                f"{path} gives {added['content']!r} the id {added['id']}, the signal vocabulary {expected}; "
                "take the tokenizer that belongs to the checkpoint"
            )
    return {**definition, "added_tokens": kept}
