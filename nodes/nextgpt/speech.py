"""Speech: the text of a growing answer, said as soon as it is certain to stay.

Tokens that may become a stop sequence are held back, and so is text that may become a stop text, so that what was
streamed is exactly what the answer says. Stop sequences are the model's own; stop texts are found however they were cut
into tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nodes.nextgpt.model.signals import SignalVocabulary, stop_sequences

if TYPE_CHECKING:
    from nodes.nextgpt.model.tokenizer import Tokenizer


class Speech:
    """`pieces[i]` is the text that token i adds; joined, they are what `say` was given.

    ended: one of `stop_texts` was said; it and what follows it in the same breath are not part of the answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocabulary: SignalVocabulary,
        stop: Sequence[int | Sequence[int]],
        say: Callable[[str], None],
        stop_texts: Sequence[str] = (),
    ) -> None:
        from nodes.nextgpt.model.tokenizer import TextStream

        self.pieces: list[str] = []
        self.ended = False
        self._stream = TextStream(tokenizer, vocabulary)
        self._signals = frozenset(vocabulary.ids())
        self._stop, self._say = stop_sequences(stop), say
        self._stop_texts = tuple(stop_texts)
        self._unsaid = ""
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
        self._let_go()

    def _may_stop(self) -> bool:
        """Whether the held tokens are a beginning (or all) of a stop sequence."""
        return any(list(sequence[: len(self._held)]) == self._held for sequence in self._stop)

    def _settle(self, token: int) -> None:
        if token in self._signals:
            self._add_to_last(self._stream.flush())
            self._let_go()
            self.pieces.append("")
            self._after_signal = self._spoke
            return
        self.pieces.append("")
        self._add_to_last(self._stream.push(token))

    def _add_to_last(self, text: str) -> None:
        if not text or not self.pieces or self.ended:
            return
        if self._after_signal and not text[0].isspace():
            text = f" {text}"  # the tokenizer begins anew after a run and drops the space of its first word
        self._after_signal, self._spoke = False, True
        self.pieces[-1] += text
        self._unsaid += text
        found = [at for stop in self._stop_texts if (at := self._unsaid.find(stop)) >= 0]
        if found:
            self._cut(len(self._unsaid) - min(found))
            self.ended = True
        self._let_go(0 if found else self._beginnings())

    def _beginnings(self) -> int:
        """How many of the last letters may be the beginning of a stop text."""
        longest = 0
        for stop in self._stop_texts:
            sizes = range(min(len(stop) - 1, len(self._unsaid)), longest, -1)
            longest = next((size for size in sizes if self._unsaid.endswith(stop[:size])), longest)
        return longest

    def _cut(self, letters: int) -> None:
        """Take back the last letters, which nobody has heard."""
        self._unsaid = self._unsaid[: len(self._unsaid) - letters]
        for index in range(len(self.pieces) - 1, -1, -1):
            taken = min(letters, len(self.pieces[index]))
            self.pieces[index] = self.pieces[index][: len(self.pieces[index]) - taken]
            letters -= taken
            if not letters:
                return

    def _let_go(self, keep: int = 0) -> None:
        """Say what is unsaid but for the last `keep` letters."""
        certain = self._unsaid[: len(self._unsaid) - keep]
        self._unsaid = self._unsaid[len(certain) :]
        if certain:
            self._say(certain)
