"""From a conversation to `inputs_embeds`: templates are data, media are blocks of vectors between pieces of text.

Two templates are published, and a model may bring its own (`chat_template.py`). `LEGACY` (2023 weights) has no system
sentence, wraps every medium in `<Img> </Img>` and puts a begin token before every piece of text, because its training
split the prompt there. `CURRENT` is Vicuna v1.

Control and signal tokens are inserted as ids, never as text, so a user cannot type them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from .language import LanguageModel
from .signals import SignalVocabulary
from .tokenizer import Tokenizer

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class TextPart:
    text: str


@dataclass(frozen=True)
class FeaturePart:
    """One medium as the input projector gave it: `[M, H]`, M = 1 (linear, global) up to the number of patches."""

    features: Tensor


@dataclass(frozen=True)
class SignalPart:
    """A run of signal tokens of an assistant's turn (training targets, remembered answers)."""

    modality: str


Part = TextPart | FeaturePart | SignalPart


@dataclass(frozen=True)
class Turn:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class PromptTemplate:
    """How turns become one string.

    `system` opens the prompt; `openings[role]` precedes a turn and `closings[role]` ends it. The assistant's closing
    is part of what the model learns to say. The last opening, the assistant's, has no answer and loses its final
    space (the answer brings its own). `end_token` puts the end-of-text id after an assistant's turn. `bos` is where
    the begin id goes: "first" or "every" stretch of text between media. `wrap` puts the vocabulary's wrap pair around
    media; `media_separator` follows a medium that has something after it. `stop` are the texts that end an answer
    besides the end token.
    """

    name: str
    system: str
    openings: tuple[tuple[str, str], ...]
    closings: tuple[tuple[str, str], ...]
    media_separator: str
    bos: Literal["first", "every"]
    wrap: bool
    end_token: bool
    stop: tuple[str, ...] = ()


LEGACY = PromptTemplate(
    name="legacy",
    system="###",
    openings=(("user", " Human: "), ("assistant", "### Assistant: ")),
    closings=(("user", "\n"), ("assistant", "\n###")),
    media_separator="",
    bos="every",
    wrap=True,
    end_token=False,
    stop=("###",),
)
CURRENT = PromptTemplate(
    name="current",
    system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    ),
    openings=(("user", "USER: "), ("assistant", "ASSISTANT: ")),
    closings=(("user", " "), ("assistant", "")),
    media_separator="\n",
    bos="first",
    wrap=False,
    end_token=True,
)
TEMPLATES = {template.name: template for template in (LEGACY, CURRENT)}


class PromptTooLong(ValueError):
    """The conversation does not fit the context. Nothing is cut: half a medium would be noise to the model."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt: token `ids`, or a feature block `[M, H]`. `spoken`: the assistant's words (labels)."""

    ids: tuple[int, ...] = ()
    features: Tensor | None = None
    spoken: bool = False

    def __len__(self) -> int:
        return len(self.ids) if self.features is None else self.features.shape[0]


def lay_out(
    turns: Sequence[Turn],
    template: PromptTemplate | None,
    tokenizer: Tokenizer,
    vocabulary: SignalVocabulary | None = None,
    open_answer: bool = True,
) -> list[Piece]:
    """The prompt as pieces in order; with `open_answer` the assistant's opening follows the last turn.

    No template means the model's own (`chat_template.py`).
    Raises ValueError for a conversation that does not begin with the user, for a medium or signal that needs a
    vocabulary which is not given, and for a wrapping template with a vocabulary without wrap tokens.
    """
    if not turns or turns[0].role != "user":
        raise ValueError(
            "a prompt needs at least one turn, and the first one is the user's; begin with a text or a medium of a user"
        )
    if template is None:
        from .chat_template import lay_out_chat

        return lay_out_chat(turns, tokenizer, vocabulary, open_answer)
    openings, closings = dict(template.openings), dict(template.closings)
    pieces: list[Piece] = []
    text: list[tuple[str, bool]] = [(template.system, False)]
    begins = True

    def settle() -> None:
        """Encode the text gathered so far, split where the speaker changes."""
        nonlocal begins
        marked = tokenizer.encode_marked(text)
        if marked and begins:
            if tokenizer.begin:
                pieces.append(Piece(tokenizer.begin))
            begins = False
        pieces.extend(gather(marked))
        text.clear()

    for turn in turns:
        spoken = turn.role == "assistant"
        # A prompt ends before the opening's last space (`open_answer`), so that space is the assistant's to say.
        opening = openings[turn.role]
        bare = opening.rstrip(" ") if spoken else opening
        text.append((bare, False))
        if bare != opening:
            text.append((opening[len(bare) :], True))
        for index, part in enumerate(turn.parts):
            # The original splits the prompt at " <" and "> ", so no space touches a wrapped medium.
            if isinstance(part, TextPart):
                touches = template.wrap and index and isinstance(turn.parts[index - 1], FeaturePart)
                text.append((part.text.lstrip(" ") if touches else part.text, spoken))
                continue
            if template.wrap and isinstance(part, FeaturePart) and text:
                text[-1] = (text[-1][0].rstrip(" "), text[-1][1])
            settle()
            if isinstance(part, SignalPart):
                pieces.append(signal(part, vocabulary, spoken))
                continue
            if template.wrap and (vocabulary is None or vocabulary.wrap is None):
                raise ValueError(
                    f"template {template.name!r} wraps media, but the signal vocabulary has no wrap tokens"
                )
            pieces += medium(part.features, vocabulary if template.wrap else None)
            begins = template.bos == "every"
            if template.media_separator and index + 1 < len(turn.parts):
                text.append((template.media_separator, spoken))
        text.append((closings[turn.role], spoken))
        if spoken and template.end_token:
            settle()
            if tokenizer.end:
                pieces.append(Piece(tokenizer.end, spoken=True))
    if open_answer:
        text.append((openings["assistant"].rstrip(" "), False))
    settle()
    return pieces


def gather(marked: Sequence[tuple[int, bool]]) -> list[Piece]:
    """Ids that are each marked as spoken or not, as pieces."""
    return [
        Piece(tuple(token for token, _ in group), spoken=spoken)
        for spoken, group in groupby(marked, key=lambda item: item[1])
    ]


def signal(part: SignalPart, vocabulary: SignalVocabulary | None, spoken: bool) -> Piece:
    """A run of signal tokens. Raises ValueError without a vocabulary that has it."""
    if vocabulary is None:
        raise ValueError(f"a {part.modality} signal in the conversation needs the signal vocabulary")
    return Piece(vocabulary.run(part.modality), spoken=spoken)


def medium(features: Tensor, wrapping: SignalVocabulary | None) -> list[Piece]:
    """A feature block, between the wrap tokens of `wrapping` if that is given."""
    if features.ndim != 2 or features.shape[0] == 0:
        raise ValueError(f"a feature block must be [M, H] with M at least 1, is {list(features.shape)}")
    block = Piece(features=features)
    if wrapping is None or wrapping.wrap is None:
        return [block]
    return [Piece((wrapping.wrap[0],)), block, Piece((wrapping.wrap[1],))]


def embed_pieces(model: LanguageModel, pieces: Sequence[Piece]) -> Tensor:
    """Pieces as one `inputs_embeds [1, P, H]` in the model's dtype. Raises ValueError for a block of another width."""
    blocks = []
    for piece in pieces:
        if piece.features is None:
            blocks.append(model.embed(piece.ids))
        elif piece.features.shape[1] != model.hidden_size:
            raise ValueError(
                f"a feature block is {piece.features.shape[1]} wide, the language model {model.hidden_size}; "
                "the input projector belongs to another model"
            )
        else:
            blocks.append(piece.features.to(model.device, model.dtype))
    return torch.cat(blocks)[None]


def build_inputs(
    model: LanguageModel,
    tokenizer: Tokenizer,
    turns: Sequence[Turn],
    template: PromptTemplate | None,
    vocabulary: SignalVocabulary | None = None,
    reserve_tokens: int = 0,
) -> Tensor:
    """The prompt `[1, P, H]` up to where the assistant speaks.

    Raises PromptTooLong if P and `reserve_tokens` (room for the answer) exceed the model's context, naming the largest
    part; nothing is cut.
    """
    pieces = lay_out(turns, template, tokenizer, vocabulary)
    length = sum(len(piece) for piece in pieces)
    if length + reserve_tokens > model.context_length:
        media = sum(len(piece) for piece in pieces if piece.features is not None)
        raise PromptTooLong(
            f"the conversation is {length} tokens long ({media} of media, {length - media} of text) "
            f"and {reserve_tokens} are reserved for the answer, but the model's context is {model.context_length}; "
            "drop early turns or use a projector with fewer tokens per medium"
        )
    return embed_pieces(model, pieces)


def stop_ids(
    template: PromptTemplate | None, tokenizer: Tokenizer, texts: Sequence[str] = ()
) -> tuple[int | tuple[int, ...], ...]:
    """What ends an answer: the end token, and each stop text (the template's, then `texts`) alone and at the start of a
    line, because the two are other tokens."""
    ends: list[int | tuple[int, ...]] = [*tokenizer.end]
    for text in (*(template.stop if template is not None else ()), *texts):
        alone = tuple(tokenizer.encode(text))
        newline, after = tokenizer.encode("\n"), tokenizer.encode("\n" + text)
        line_start = tuple(after[len(newline) :]) if after[: len(newline)] == newline else alone
        ends += [sequence for sequence in dict.fromkeys((alone, line_start)) if sequence]
    return tuple(dict.fromkeys(ends))
