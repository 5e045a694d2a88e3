"""Speech: the text of a growing answer, said as soon as it is certain to stay.

Tokens that may become a stop sequence are held back, so that what was streamed is exactly what the answer says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nodes.nextgpt.model.signals import SignalVocabulary, stop_sequences

if TYPE_CHECKING:
    from nodes.nextgpt.model.tokenizer import Tokenizer


class Speech:
    """`pieces[i]` is the text that token i adds; joined, they are what `say` was given."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocabulary: SignalVocabulary,
        stop: Sequence[int | Sequence[int]],
        say: Callable[[str], None],
    ) -> None:
        from nodes.nextgpt.model.tokenizer import TextStream

        self.pieces: list[str] = []
        self._stream = TextStream(tokenizer, vocabulary)
        self._signals = frozenset(vocabulary.ids())
        self._stop, self._say = stop_sequences(stop), say
        self._held: list[int] = []
        self._after_signal = False
        self._spoke = False

    def push(self, token: int) -> None:
        """The next token of the answer."""
        self._held.append(token)
        while self._held and not self._may_stop():
            self._settle(self._held.pop(0))

    def close(self, length: int) -> None:
        """The answer has `length` tokens; what was held back beyond them were stop tokens."""
        for token in self._held[: length - len(self.pieces)]:
            self._settle(token)
        self._held.clear()
        self._add_to_last(self._stream.flush())

    def _may_stop(self) -> bool:
        """Whether the held tokens are a beginning (or all) of a stop sequence."""
        return any(list(sequence[: len(self._held)]) == self._held for sequence in self._stop)

    def _settle(self, token: int) -> None:
        if token in self._signals:
            self._add_to_last(self._stream.flush())
            self.pieces.append("")
            self._after_signal = self._spoke
            return
        self.pieces.append("")
        self._add_to_last(self._stream.push(token))

    def _add_to_last(self, text: str) -> None:
        if not text or not self.pieces:
            return
        if self._after_signal and not text[0].isspace():
            text = f" {text}"  # the tokenizer begins anew after a run and drops the space of its first word
        self._after_signal, self._spoke = False, True
        self.pieces[-1] += text
        self._say(text)
