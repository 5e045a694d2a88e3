"""A conversation laid out by the model's own chat template, the Jinja text that stands in its folder.

The template writes control tokens ("<|im_start|>") as text. A user must not be able to write them, so it never sees
what was said: it is rendered with a mark in place of every part, and the parts are put in afterwards. Media and signals
take their places in the same way.
"""

import re
from collections.abc import Sequence
from typing import Any

from .prompts import FeaturePart, Part, Piece, SignalPart, TextPart, Turn, gather, medium, signal
from .signals import SignalVocabulary
from .tokenizer import Tokenizer

# Private-use characters, which no template writes and none strips.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")

Stretch = tuple[str, bool]
"""Text and whether the template wrote it; only there control tokens are read as such."""


def lay_out_chat(
    turns: Sequence[Turn], tokenizer: Tokenizer, vocabulary: SignalVocabulary | None = None, open_answer: bool = True
) -> list[Piece]:
    """The prompt as pieces in order, as `prompts.lay_out` gives them.

    Raises ValueError for a model without a chat template, and for a conversation that its template refuses or changes.
    """
    parts: list[tuple[Part, bool]] = []
    messages = []
    for turn in turns:
        marks = [f"{_OPEN}{index}{_CLOSE}" for index in range(len(parts), len(parts) + len(turn.parts))]
        parts += [(part, turn.role == "assistant") for part in turn.parts]
        messages.append({"role": turn.role, "content": "".join(marks)})
    written = _MARK.split(_render(messages, tokenizer, open_answer))
    if [int(index) for index in written[1::2]] != list(range(len(parts))):
        raise ValueError("the model's chat template leaves out parts of the conversation; choose another template")
    pieces: list[Piece] = []
    text: list[tuple[Stretch, bool]] = []

    def settle() -> None:
        pieces.extend(_encode(text, tokenizer))
        text.clear()

    for position, content in enumerate(written):
        if position % 2 == 0:
            text.append(((content, True), False))
            continue
        part, spoken = parts[int(content)]
        if isinstance(part, TextPart):
            text.append(((part.text, False), spoken))
            continue
        settle()
        if isinstance(part, SignalPart):
            pieces.append(signal(part, vocabulary, spoken))
        else:
            assert isinstance(part, FeaturePart)
            pieces += medium(part.features, vocabulary if vocabulary is not None and vocabulary.wrap else None)
    settle()
    return pieces


def _render(messages: list[dict[str, str]], tokenizer: Tokenizer, open_answer: bool) -> str:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    if tokenizer.chat_template is None:
        raise ValueError("the model's folder has no chat template; choose the template legacy or current")
    try:
        # Jinja's sandbox: a template can neither change what it is given nor reach anything else.
        names: dict[str, Any] = dict(tokenizer.control_texts)
        rendered: Any = render_jinja_template(
            [messages], chat_template=tokenizer.chat_template, add_generation_prompt=open_answer, **names
        )[0]
    except (TemplateError, TypeError) as error:
        raise ValueError(
            f"the model's chat template refuses the conversation ({error}); choose the template legacy or current"
        ) from error
    return str(rendered[0])


def _encode(text: Sequence[tuple[Stretch, bool]], tokenizer: Tokenizer) -> list[Piece]:
    """Where nobody spelled a control token, the whole at once, as the model was trained; else split at those that the
    template wrote, so that what users wrote stays ordinary text."""
    spellings = tokenizer.control_spellings()
    typed = any(spelling in content for (content, own), _ in text if not own for spelling in spellings)
    if not typed:
        joined = [(content, spoken) for (content, _), spoken in text]
        return gather(tokenizer.encode_marked(joined, controls=True))
    controls = re.compile("(" + "|".join(map(re.escape, spellings)) + ")")
    pieces: list[Piece] = []
    ordinary: list[tuple[str, bool]] = []
    for (content, own), spoken in text:
        for index, stretch in enumerate(controls.split(content) if own else [content]):
            if index % 2 == 0:
                ordinary.append((stretch, spoken))
                continue
            pieces += gather(tokenizer.encode_marked(ordinary))
            ordinary = []
            pieces += gather(tokenizer.encode_marked([(stretch, spoken)], controls=True))
    return pieces + gather(tokenizer.encode_marked(ordinary))
