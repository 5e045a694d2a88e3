"""Signal tokens: how the language model says "draw", "film" or "sound" in the middle of its answer.

A modality owns an ordered run of token ids. The answer is an interleaving of text and complete runs; the hidden
states at a run become the condition of that modality's decoder. The original trusts the model to complete a run and
asserts afterwards, which crashes on a garbled run; here a run that was begun is always completed, so a broken one
cannot be generated.

Everything in this file is plain Python on integers: no torch, no text, no randomness.

Source: arXiv 2309.05519, sections 3 and 4 (signal tokens, run lengths 4 / 24 / 8).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["auto", "always", "never"]
MODES: tuple[str, ...] = ("auto", "always", "never")

DEFAULT_COUNTS: Mapping[str, int] = {"image": 4, "video": 24, "audio": 8}

# How the two published generations spell the same tokens: pattern per modality and the pair that wraps input media.
SPELLINGS: Mapping[str, Mapping[str, Any]] = {
    "legacy": {
        "patterns": {"image": "[IMG{}]", "video": "[VID{}]", "audio": "[AUD{}]"},
        "wrap": ("<Img>", "</Img>"),
    },
    "current": {
        "patterns": {"image": "<image_{:02d}>", "video": "<video_{:02d}>", "audio": "<audio_{:02d}>"},
        "wrap": None,
    },
}


@dataclass(frozen=True)
class SignalVocabulary:
    """Which token ids signal which modality; the order of `tokens` is the order of the modalities.

    `tokens[m]` and `texts[m]` have one entry per token of a run of modality `m`; `wrap` are the ids put around input
    media in the prompt (never generated). Ids are disjoint. Raises ValueError otherwise.
    """

    tokens: Mapping[str, tuple[int, ...]]
    texts: Mapping[str, tuple[str, ...]]
    wrap: tuple[int, int] | None = None
    wrap_texts: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if list(self.tokens) != list(self.texts):
            raise ValueError(f"signal ids name {list(self.tokens)} but signal texts name {list(self.texts)}")
        if (self.wrap is None) != (self.wrap_texts is None):
            raise ValueError("wrap ids and wrap texts come together or not at all")
        for modality, ids in self.tokens.items():
            if not ids or len(ids) != len(self.texts[modality]):
                raise ValueError(f"modality {modality!r} needs as many signal ids as texts, at least one")
        every = self.ids()
        if len(set(every)) != len(every):
            raise ValueError("one token id is used by two signal tokens")

    @classmethod
    def create(
        cls, first_id: int, spelling: str = "legacy", counts: Mapping[str, int] | None = None
    ) -> "SignalVocabulary":
        """Consecutive ids from `first_id` on: the wrap pair if the spelling has one, then image, video, audio.

        `create(32000)` is the published legacy layout (wrap 32000-32001, image 32002-32005, video 32006-32029,
        audio 32030-32037).
        """
        if spelling not in SPELLINGS:
            raise ValueError(f"unknown spelling {spelling!r}; known are {', '.join(SPELLINGS)}")
        rule, following = SPELLINGS[spelling], first_id
        wrap = None
        if rule["wrap"]:
            wrap, following = (following, following + 1), following + 2
        tokens: dict[str, tuple[int, ...]] = {}
        texts: dict[str, tuple[str, ...]] = {}
        for modality, count in (DEFAULT_COUNTS if counts is None else counts).items():
            tokens[modality] = tuple(range(following, following + count))
            pattern = rule["patterns"].get(modality, f"<{modality}_{{:02d}}>")
            texts[modality] = tuple(pattern.format(index) for index in range(count))
            following += count
        return cls(tokens, texts, wrap, rule["wrap"])

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    def run(self, modality: str) -> tuple[int, ...]:
        """The ids of one complete run; raises ValueError for a modality without signal tokens."""
        if modality not in self.tokens:
            raise ValueError(f"no signal tokens for modality {modality!r}; known are {', '.join(self.tokens)}")
        return self.tokens[modality]

    def ids(self) -> tuple[int, ...]:
        """Every id which is not ordinary text: all runs and the wrap pair."""
        return tuple(i for ids in self.tokens.values() for i in ids) + (self.wrap or ())

    def text_of(self) -> dict[int, str]:
        """The spelling of every signal and wrap token by id."""
        spelled = {i: t for m, ids in self.tokens.items() for i, t in zip(ids, self.texts[m], strict=True)}
        if self.wrap and self.wrap_texts:
            spelled.update(zip(self.wrap, self.wrap_texts, strict=True))
        return spelled

    @property
    def size(self) -> int:
        """The smallest vocabulary size of a model that has all these ids."""
        return max(self.ids(), default=-1) + 1

    def to_json(self) -> dict[str, Any]:
        return {
            "tokens": {m: list(ids) for m, ids in self.tokens.items()},
            "texts": {m: list(texts) for m, texts in self.texts.items()},
            "wrap": list(self.wrap) if self.wrap else None,
            "wrap_texts": list(self.wrap_texts) if self.wrap_texts else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SignalVocabulary":
        wrap, wrap_texts = data.get("wrap"), data.get("wrap_texts")
        return cls(
            {m: tuple(ids) for m, ids in data["tokens"].items()},
            {m: tuple(texts) for m, texts in data["texts"].items()},
            (wrap[0], wrap[1]) if wrap else None,
            (wrap_texts[0], wrap_texts[1]) if wrap_texts else None,
        )


@dataclass(frozen=True)
class SignalPolicy:
    """What the caller wants of each modality.

    `auto`: the model decides. `never`: it cannot. `always`: if the model is about to end without a run of that
    modality, the run is emitted first, in the order of `modes`. A modality not named is `auto`; `max_runs` (default
    1, as in the published demo) bounds the runs of a modality in one answer. `complete_runs=False` leaves every token of
    a run to the model, as the originals do: it may break one off. What was demanded is complete in any case.
    """

    modes: Mapping[str, str] = field(default_factory=dict)
    max_runs: Mapping[str, int] = field(default_factory=dict)
    default_max_runs: int = 1
    complete_runs: bool = True

    def __post_init__(self) -> None:
        for modality, mode in self.modes.items():
            if mode not in MODES:
                raise ValueError(f"mode {mode!r} of {modality!r} is not one of {', '.join(MODES)}")
            if mode == "always" and self.limit(modality) < 1:
                raise ValueError(f"{modality!r} is asked for always, but at most {self.limit(modality)} times")

    def limit(self, modality: str) -> int:
        if self.modes.get(modality) == "never":
            return 0
        return self.max_runs.get(modality, self.default_max_runs)

    @property
    def demanded(self) -> tuple[str, ...]:
        return tuple(m for m, mode in self.modes.items() if mode == "always")


@dataclass(frozen=True)
class RunTrace:
    """Why one run is in the answer.

    `position` is the index of its first token in the answer, `probability` what the model itself gave that token there
    (before bans), `reason` is `chosen` (sampled), `ending` (the model wanted to stop) or `budget` (no room to wait).
    """

    modality: str
    position: int
    token: int
    probability: float
    reason: str

    @property
    def forced(self) -> bool:
        return self.reason != "chosen"


def stop_sequences(stop: Sequence[int | Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Stop ids as sequences: `[835, (2277, 29937)]` becomes `((835,), (2277, 29937))`."""
    sequences = tuple((item,) if isinstance(item, int) else tuple(item) for item in stop)
    if any(not sequence for sequence in sequences):
        raise ValueError("an empty stop sequence would end every answer at once")
    return sequences


class SignalRunProcessor:
    """The state machine between the sampler and the answer: completes runs, forces demanded ones, says when to end.

    Per token: ask `required()`; if None, sample anything outside `banned()`; then `take()` what was sampled and use
    what it returns. Ends when `finished` is `"stop"` or `"length"`; `stop_length` is the number of trailing stop
    tokens in `ids`. Works without any vocabulary too, as plain stop and budget accounting.

    Raises ValueError if the budget has no room for the demanded runs.
    """

    def __init__(
        self,
        vocabulary: SignalVocabulary | None,
        policy: SignalPolicy | None,
        budget: int,
        stop: Sequence[int | Sequence[int]] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.policy = policy or SignalPolicy()
        self.budget = budget
        self.stop = stop_sequences(stop)
        self.ids: list[int] = []
        self.trace: list[RunTrace] = []
        self.finished: str | None = None
        self.stop_length = 0
        self._runs: dict[str, int] = {}
        self._rest: list[int] = []
        self._closing = False
        known = vocabulary.modalities if vocabulary else ()
        for modality in self.policy.modes:
            if modality not in known:
                raise ValueError(
                    f"the policy names {modality!r}, but this model signals only {', '.join(known) or 'text'}"
                )
        if budget < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {budget}")
        if self._owed_tokens() > budget:
            raise ValueError(
                f"max_new_tokens={budget} has no room for the {self._owed_tokens()} signal tokens of the demanded "
                f"{', '.join(self._owed())}; raise it or demand less"
            )
        self._first = {ids[0]: m for m, ids in vocabulary.tokens.items()} if vocabulary else {}
        # Continuations out of place would be a broken run; wrap tokens belong to prompts.
        self._never = frozenset(vocabulary.ids()) - frozenset(self._first) if vocabulary else frozenset()
        if vocabulary and not self.policy.complete_runs:
            forbidden = [ids for m, ids in vocabulary.tokens.items() if not self.policy.limit(m)]
            self._never = frozenset([*(vocabulary.wrap or ()), *(i for ids in forbidden for i in ids)])

    def _owed(self) -> list[str]:
        return [m for m in self.policy.demanded if not self._runs.get(m)]

    def _owed_tokens(self, besides: str | None = None) -> int:
        return sum(len(self.vocabulary.run(m)) for m in self._owed() if m != besides) if self.vocabulary else 0

    def _left(self) -> int:
        return self.budget - len(self.ids)

    def required(self) -> int | None:
        """The id that has to be emitted now, or None if the model may choose."""
        if self._rest:
            return self._rest[0]
        owed = self._owed()
        if owed and self.vocabulary and (self._closing or self._left() <= self._owed_tokens()):
            return self.vocabulary.run(owed[0])[0]
        return None

    def banned(self) -> frozenset[int]:
        """The ids that may not be chosen now (meaningless while `required()` names one)."""
        if not self.vocabulary:
            return frozenset()
        shut = [
            first
            for first, m in self._first.items()
            if self._runs.get(m, 0) >= self.policy.limit(m)
            or self._left() < len(self.vocabulary.run(m)) + self._owed_tokens(besides=m)
        ]
        return self._never.union(shut)

    def take(self, token: int, probability_of: Callable[[int], float]) -> int:
        """Accept the sampled `token` and return the id really emitted (another one if a run is forced here)."""
        if self.finished:
            raise ValueError(f"the answer has already ended ({self.finished})")
        required, reason = self.required(), "budget"
        if required is None:
            if token in self.banned():
                raise ValueError(f"token {token} is banned at position {len(self.ids)}")
            if self._ends_with(token) and self._owed():
                self._closing = True
                required = self.required()
            else:
                required, reason = token, "chosen"
        if self._closing:
            reason = "ending"
        self._emit(required if required is not None else token, reason, probability_of)
        return self.ids[-1]

    def close(self) -> None:
        """The answer is to end here, as after a stop token: demanded runs that are missing come first."""
        self._closing = True
        if not self._rest and not self._owed():
            self.finished = "stop"

    def _ends_with(self, token: int) -> int:
        """The length of the stop sequence that `token` would complete, 0 if none."""
        for sequence in self.stop:
            if sequence[-1] == token and tuple(self.ids[len(self.ids) - len(sequence) + 1 :]) == sequence[:-1]:
                return len(sequence)
        return 0

    def _emit(self, token: int, reason: str, probability_of: Callable[[int], float]) -> None:
        if self._rest:
            self._rest.pop(0)
        elif token in self._first and self.vocabulary:
            modality = self._first[token]
            self._runs[modality] = self._runs.get(modality, 0) + 1
            if self.policy.complete_runs or modality in self.policy.demanded:
                self._rest = list(self.vocabulary.run(modality)[1:])
            self.trace.append(RunTrace(modality, len(self.ids), token, probability_of(token), reason))
        else:
            self.stop_length = self._ends_with(token)
        self.ids.append(token)
        if self.stop_length or (self._closing and not self._rest and not self._owed()):
            self.finished = "stop"
        elif self._left() == 0:
            self.finished = "length"


@dataclass(frozen=True)
class Text:
    """Ordinary tokens `ids` at positions `start` to `stop` (exclusive) of the answer."""

    start: int
    stop: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Media:
    """A complete run of `modality` at positions `start` to `stop` (exclusive); `order` counts the runs."""

    start: int
    stop: int
    modality: str
    order: int


@dataclass(frozen=True)
class Broken:
    """Signal or wrap tokens that are no complete run. Our own loop never makes one; foreign lists may."""

    start: int
    stop: int


SignalEvent = Text | Media | Broken


def scan(ids: Sequence[int], vocabulary: SignalVocabulary) -> list[SignalEvent]:
    """One left-to-right pass over an answer: text, complete runs and broken ones, in the order spoken.

    Every position belongs to exactly one event; text after the last run is kept; adjacent text is one event.
    """
    special = frozenset(vocabulary.ids())
    first = {run[0]: (modality, run) for modality, run in vocabulary.tokens.items()}
    events: list[SignalEvent] = []
    position = runs = 0
    while position < len(ids):
        start = position
        modality, run = first.get(ids[position], ("", ()))
        if run and tuple(ids[position : position + len(run)]) == run:
            position += len(run)
            events.append(Media(start, position, modality, runs))
            runs += 1
        elif ids[position] in special:
            position += 1
            if events and isinstance(events[-1], Broken):
                start = events.pop().start
            events.append(Broken(start, position))
        else:
            while position < len(ids) and ids[position] not in special:
                position += 1
            events.append(Text(start, position, tuple(ids[start:position])))
    return events
