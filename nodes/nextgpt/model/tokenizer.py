"""Text to ordinary token ids and back. Signal tokens never pass through here: they are ids from the start.

Two sources, one class: the small vocabulary shipped beside this file (readable English words, so that even an untrained
model speaks in words; byte fallback, so that any text round-trips) and the folder of a real model (`tokenizer_files.py`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .signals import SignalVocabulary
from .tokenizer_files import TokenizerError, TokenizerFiles

TINY_PATH = Path(__file__).with_name("tiny_tokenizer.json")
MINI_PATH = Path(__file__).with_name("mini_tokenizer.json")
CONTROL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")

__all__ = ["TextStream", "Tokenizer", "TokenizerError"]


class Tokenizer:
    """Ids of ordinary text. `begin` and `end` are the begin and end tokens, each of one id or, in a vocabulary without
    such a token, of none; `size` counts the vocabulary without signal tokens.

    Text which merely looks like a control or signal token ("</s>", "[IMG0]") is encoded as the characters it is, so a
    user cannot speak in the model's name.
    """

    def __init__(self, definition: str, bos: str | None = "<s>", eos: str | None = "</s>") -> None:
        """`definition` is the text of a `tokenizer.json`. Raises TokenizerError if `bos` or `eos` is not in it."""
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_str(definition)
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"the definition cannot be read ({error}); fetch the file again") from error
        self._backend.encode_special_tokens = True
        # The highest id counts, not the number of entries: some vocabularies have holes.
        self.size: int = max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.begin, self.end = self._control(bos), self._control(eos)
        controls = (i for i, added in self._backend.get_added_tokens_decoder().items() if added.special)
        self._silent = frozenset([*self.begin, *self.end, *controls])
        self.chat_template: str | None = None
        self.control_texts: Mapping[str, str] = {}
        """Names of control tokens ("bos_token") and how they are spelled: what chat templates may write."""

    def _control(self, token: str | None) -> tuple[int, ...]:
        if token is None:
            return ()
        found = self.id_of(token)
        if found is None:
            raise TokenizerError(f"the vocabulary has no {token!r}; name the model's own begin and end tokens")
        return (found,)

    @property
    def bos_id(self) -> int:
        """The id of the begin token. Raises TokenizerError where there is none."""
        return self._only(self.begin, "begin")

    @property
    def eos_id(self) -> int:
        """The id of the end token. Raises TokenizerError where there is none."""
        return self._only(self.end, "end")

    @staticmethod
    def _only(ids: tuple[int, ...], name: str) -> int:
        if not ids:
            raise TokenizerError(f"the vocabulary has no {name} token; take a tokenizer that has one")
        return ids[0]

    @classmethod
    def tiny(cls) -> "Tokenizer":
        """The shipped vocabulary: 0 unknown, 1 begin, 2 end, 3-258 bytes, then words, parts of words and characters."""
        return cls(TINY_PATH.read_text(encoding="utf-8"))

    @classmethod
    def mini(cls) -> "Tokenizer":
        """The shipped vocabulary of the mini models (`training/world/vocabulary.py`): laid out as the tiny one, with the
        words of the world, English and Chinese."""
        return cls(MINI_PATH.read_text(encoding="utf-8"))

    @classmethod
    def shipped(cls, name: str) -> "Tokenizer | None":
        """The tokenizer that ships under this name, "tiny" or "mini"; None for any other."""
        return cls.tiny() if name == "tiny" else cls.mini() if name == "mini" else None

    @classmethod
    def from_folder(cls, folder: Path, vocabulary: SignalVocabulary | None = None) -> "Tokenizer":
        """Read `tokenizer.json`, else `tokenizer.model`, of a model folder, and what stands beside it
        (tokenizer_config.json, chat_template.jinja).

        Added tokens that spell signal tokens are dropped from the text rules; if the folder gives one of them another
        id than `vocabulary` does, that is a TokenizerError, as is a folder without a tokenizer.
        """
        files = TokenizerFiles.of(folder)
        definition = files.definition
        if vocabulary is not None:
            definition = _without_signals(definition, vocabulary, files.path)
        tokenizer = cls(json.dumps(definition), files.control("bos_token"), files.control("eos_token"))
        tokenizer.chat_template = files.chat_template
        tokenizer.control_texts = {name: text for name in CONTROL_NAMES if (text := files.control(name)) is not None}
        return tokenizer

    def control_spellings(self) -> list[str]:
        """How the control and added tokens are spelled, longest first."""
        added = self._backend.get_added_tokens_decoder().values()
        return sorted((token.content for token in added), key=len, reverse=True)

    def id_of(self, text: str) -> int | None:
        """The id of one token by its exact spelling."""
        found = self._backend.token_to_id(text)
        return None if found is None else int(found)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added at either end."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_marked(self, stretches: Sequence[tuple[str, bool]], controls: bool = False) -> list[tuple[int, bool]]:
        """Ids of the joined stretches, each with the mark of the stretch in which it ends.

        Encoding stretches one by one would be another tokenisation: word boundaries would move. `controls`: spellings
        of control tokens are read as those; never for what a user wrote.
        """
        marks = [mark for text, mark in stretches for _ in text]
        backend = self._reads_controls if controls else self._backend
        encoded = backend.encode("".join(text for text, _ in stretches), add_special_tokens=False)
        return [(i, marks[max(end - 1, 0)]) for i, (_, end) in zip(encoded.ids, encoded.offsets, strict=True)]

    @cached_property
    def _reads_controls(self) -> Any:
        from tokenizers import Tokenizer as Backend

        return Backend.from_str(self._backend.to_str())

    def decode(self, ids: Sequence[int], signals: SignalVocabulary | None = None) -> str:
        """Text of `ids`; signal tokens read as their spelling if `signals` is given, else as nothing, like controls."""
        spelled = signals.text_of() if signals else {}
        parts: list[str] = []
        plain: list[int] = []
        for token in ids:
            if token in spelled or token >= self.size:
                parts += [self._plain(plain), spelled.get(token, "")]
                plain = []
            elif token not in self._silent:
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
            if token in self.end or piece is None:
                continue
            is_byte = len(piece) == 6 and piece.startswith("<0x")
            is_part = whole_words and (piece[0].isalnum() or piece[0] in "'_`~^" or piece == " ")
            if token in self.begin or piece == "<unk>" or is_byte or is_part:
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
        """What is still held back, without the half character at its end; then a new stretch begins."""
        while self._window and self._tokenizer.decode(self._window).endswith("\ufffd"):
            self._window.pop()
        new = self._tokenizer.decode(self._window)[self._said :]
        self._window, self._said = [], 0
        return new


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
