"""What training never shows is not denied: beside a word, the one that is withheld from it is no wrong answer.

Cross entropy says of every word but the right one that it is wrong. Where no triangle ever is red it says of each triangle
that it is not red, and a red one, seen well, was called green. So the words that are withheld from a pair's other half are
left out of the sum over the vocabulary; nothing says that they are right either. This takes knowing what training lacks, which
can be counted in what it has; here the rule is asked (`world/withheld.py`).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, OCTAVES, SHAPES, TIMBRES, word
from nodes.nextgpt.training.world.withheld import is_pair_withheld, is_sound_withheld

MOST = 2
"""Notes that an instrument lacks; of all else there is one."""
NONE = -1

Left = tuple[int, int, int]
"""Place, and which of the `MOST` there is what token."""
_TABLES = {"colour": COLOURS, "shape": SHAPES, "note": NOTES, "timbre": TIMBRES, "octave": OCTAVES}


class Unseen:
    """By the vocabulary of one tokenizer. Looks at canonical captions, which is what answers are made of: in these a colour
    stands right before its shape, and an instrument before its note (in English with "note" between)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.names, self.tokens, self.between = _words(tokenizer)

    def beside(self, labels: Tensor) -> Tensor:
        """Tokens "B L 2" that are not to be counted as wrong at each place of labels "B L"; `NONE` where there are fewer."""
        left: list[tuple[int, int, int, int]] = []
        for row, ids in enumerate(labels.tolist()):
            of_row: list[Left] = []
            for place, token in enumerate(ids):
                kind, name = self.names.get(token, ("", ""))
                if kind == "colour":
                    self._pair(of_row, ids, place, name)
                elif kind == "timbre":
                    self._sound(of_row, ids, place, name)
            left += [(row, *one) for one in of_row]
        found = torch.full((*labels.shape, MOST), NONE)
        if left:
            rows, places, slots, tokens = torch.tensor(left).unbind(1)
            found[rows, places, slots] = tokens
        return found.to(labels.device)

    def _pair(self, found: list[Left], ids: list[int], place: int, colour: str) -> None:
        kind, shape = self._at(ids, place + 1)
        if kind != "shape":
            return
        self._leave(found, ids, place, [c for c in COLOURS if is_pair_withheld(shape, c)])
        self._leave(found, ids, place + 1, [s for s in SHAPES if is_pair_withheld(s, colour)])

    def _sound(self, found: list[Left], ids: list[int], place: int, timbre: str) -> None:
        # Glides are low and do not say so.
        kind, octave = self._at(ids, place - 1)
        after = place + 1 + (place + 1 < len(ids) and ids[place + 1] in self.between)
        is_note, note = self._at(ids, after)
        if is_note != "note" or (kind == "octave" and octave != "low"):
            return
        self._leave(found, ids, place, [t for t in TIMBRES if _is_withheld(note, t)])
        self._leave(found, ids, after, [n for n in NOTES if _is_withheld(n, timbre)])

    def _at(self, ids: list[int], place: int) -> tuple[str, str]:
        return self.names.get(ids[place], ("", "")) if 0 <= place < len(ids) else ("", "")

    def _leave(self, found: list[Left], ids: list[int], place: int, names: list[str]) -> None:
        """The same spelling as the word that is there: of its language. What is said after all is counted."""
        kind, said = self.names[ids[place]]
        language = next(spoken for spoken in LANGUAGES if self.tokens.get((kind, said, spoken)) == ids[place])
        others = [self.tokens.get((kind, name, language), NONE) for name in names if name != said]
        found += [(place, slot, token) for slot, token in enumerate(others)]


def _is_withheld(note: str, timbre: str) -> bool:
    return is_sound_withheld(Sound(note, "low", timbre, "once", "steady", "loud"))


Names = dict[int, tuple[str, str]]
Tokens = dict[tuple[str, str, str], int]


@lru_cache(maxsize=4)
def _words(tokenizer: Tokenizer) -> tuple[Names, Tokens, frozenset[int]]:
    """What each token names (kind and name), the token of each name by language, and tokens that may stand between."""
    names: Names = {}
    tokens: Tokens = {}
    for kind, table in _TABLES.items():
        for name in table:
            for language in LANGUAGES:
                # A note is the same letter in both: with a space before it in English.
                spoken = word(table, name, language)
                token = tokenizer.id_of(f" {spoken}" if language == "en" else spoken)
                if token is not None:
                    names[token] = (kind, name)
                    tokens[kind, name, language] = token
    between = tokenizer.id_of(" note")
    return names, tokens, frozenset(() if between is None else (between,))
