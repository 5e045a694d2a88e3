"""Prompts: the two published templates, media between text, nothing cut."""

import pytest
import torch

from nodes.nextgpt.model.language import TINY_BASE_SIZE, LanguageConfig, LanguageModel
from nodes.nextgpt.model.prompts import (
    CURRENT,
    LEGACY,
    TEMPLATES,
    FeaturePart,
    PromptTooLong,
    SignalPart,
    TextPart,
    Turn,
    build_inputs,
    lay_out,
    stop_ids,
)
from nodes.nextgpt.model.signals import SignalVocabulary
from nodes.nextgpt.model.tokenizer import Tokenizer

torch.set_num_threads(1)

TOKENIZER = Tokenizer.tiny()
SIGNALS = SignalVocabulary.create(TINY_BASE_SIZE)
MEDIUM = FeaturePart(torch.full((3, 64), 0.5))
DIALOGUE = (
    Turn("user", (MEDIUM, TextPart("What is this?"))),
    Turn("assistant", (TextPart("a fox"), SignalPart("image"))),
    Turn("user", (TextPart("Now as "), MEDIUM, TextPart("please"))),
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.random(LanguageConfig.tiny(), 0)


def spell(pieces) -> str:
    """Pieces as readable text: {M} for a medium, begin and end tokens spelled out."""
    controls = {TOKENIZER.bos_id: "<s>", TOKENIZER.eos_id: "</s>"}
    return "".join(
        "{M}"
        if piece.features is not None
        else "".join(controls.get(i) or TOKENIZER.decode([i], SIGNALS) for i in piece.ids)
        for piece in pieces
    )


def test_legacy_one_turn_is_the_published_string():
    pieces = lay_out([Turn("user", (MEDIUM, TextPart("What is this?")))], LEGACY, TOKENIZER, SIGNALS)
    assert spell(pieces) == "<s>### Human:<Img>{M}</Img><s>What is this?\n### Assistant:"


def test_no_space_touches_a_wrapped_medium():
    """As "Look at <image> and say." comes from a message; Llama's tokens of two spaces are others than of one."""
    parts = (TextPart("Look at "), MEDIUM, TextPart(" and "), MEDIUM, MEDIUM, TextPart(" now."))
    assert spell(lay_out([Turn("user", parts)], LEGACY, TOKENIZER, SIGNALS)) == (
        "<s>### Human: Look at<Img>{M}</Img><s>and<Img>{M}</Img><Img>{M}</Img><s>now.\n### Assistant:"
    )
    # Without wrap tokens the spaces are the user's.
    assert "Look at {M}\n and {M}" in spell(lay_out([Turn("user", parts)], CURRENT, TOKENIZER, SIGNALS))


def test_legacy_dialogue():
    assert spell(lay_out(DIALOGUE, LEGACY, TOKENIZER, SIGNALS)) == (
        "<s>### Human:<Img>{M}</Img><s>What is this?\n### Assistant: a fox[IMG0][IMG1][IMG2][IMG3]\n###"
        " Human: Now as<Img>{M}</Img><s>please\n### Assistant:"
    )


def test_current_dialogue():
    text = spell(lay_out(DIALOGUE, CURRENT, TOKENIZER, SIGNALS))
    assert text.startswith("<s>A chat between a curious user and an artificial intelligence assistant. ")
    assert text.count("<s>") == 1
    assert text.endswith(
        "questions. USER: {M}\nWhat is this? ASSISTANT: a fox[IMG0][IMG1][IMG2][IMG3]</s>"
        "USER: Now as {M}\nplease ASSISTANT:"
    )


def test_only_the_assistants_words_are_marked_as_spoken():
    for template, said in (
        (LEGACY, " a fox[IMG0][IMG1][IMG2][IMG3]\n###"),
        (CURRENT, " a fox[IMG0][IMG1][IMG2][IMG3]</s>"),
    ):
        pieces = lay_out(DIALOGUE, template, TOKENIZER, SIGNALS, open_answer=False)
        assert spell([piece for piece in pieces if piece.spoken]) == said


def test_text_without_media_is_tokenised_in_one_stretch():
    pieces = lay_out([Turn("user", (TextPart("Draw a "), TextPart("fox")))], LEGACY, TOKENIZER, SIGNALS)
    ids = [i for piece in pieces for i in piece.ids]
    assert ids == [TOKENIZER.bos_id, *TOKENIZER.encode("### Human: Draw a fox\n### Assistant:")]


def test_users_cannot_type_signals_or_controls():
    pieces = lay_out([Turn("user", (TextPart("[IMG0] <Img> </s> <s>"),))], LEGACY, TOKENIZER, SIGNALS)
    ids = [i for piece in pieces for i in piece.ids]
    assert not set(SIGNALS.ids()) & set(ids)
    assert ids.count(TOKENIZER.bos_id) == 1
    assert TOKENIZER.eos_id not in ids


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_embeddings_are_the_pieces_in_order(model, template):
    inputs = build_inputs(model, TOKENIZER, DIALOGUE, template, SIGNALS)
    pieces = lay_out(DIALOGUE, template, TOKENIZER, SIGNALS)
    assert inputs.shape == (1, sum(len(piece) for piece in pieces), 64)
    position = 0
    for piece in pieces:
        expected = MEDIUM.features if piece.features is not None else model.embed(piece.ids)
        assert torch.equal(inputs[0, position : position + len(piece)], expected)
        position += len(piece)


def test_too_long_is_an_error_and_nothing_is_cut(model):
    long = FeaturePart(torch.zeros(2040, 64))
    with pytest.raises(PromptTooLong, match=r"2040 of media.*context is 2048"):
        build_inputs(model, TOKENIZER, [Turn("user", (long, TextPart("What is it?")))], LEGACY, SIGNALS)
    turns = [Turn("user", (TextPart("What is it?"),))]
    length = build_inputs(model, TOKENIZER, turns, LEGACY).shape[1]
    assert build_inputs(model, TOKENIZER, turns, LEGACY, reserve_tokens=2048 - length).shape[1] == length
    with pytest.raises(PromptTooLong, match="reserved for the answer"):
        build_inputs(model, TOKENIZER, turns, LEGACY, reserve_tokens=2049 - length)


def test_misfits_are_refused(model):
    with pytest.raises(ValueError, match="at least one turn"):
        lay_out([], LEGACY, TOKENIZER)
    with pytest.raises(ValueError, match="first one is the user's"):
        lay_out(DIALOGUE[1:], LEGACY, TOKENIZER, SIGNALS)
    with pytest.raises(ValueError, match="no wrap tokens"):
        lay_out(DIALOGUE, LEGACY, TOKENIZER, SignalVocabulary.create(TINY_BASE_SIZE, "current"))
    with pytest.raises(ValueError, match="needs the signal vocabulary"):
        lay_out(DIALOGUE, CURRENT, TOKENIZER)
    with pytest.raises(ValueError, match="M at least 1"):
        lay_out([Turn("user", (FeaturePart(torch.zeros(0, 64)),))], CURRENT, TOKENIZER)
    with pytest.raises(ValueError, match="32 wide, the language model 64"):
        build_inputs(model, TOKENIZER, [Turn("user", (FeaturePart(torch.zeros(1, 32)),))], CURRENT)


def test_stop_ids_end_an_answer_of_each_template():
    mark = tuple(TOKENIZER.encode("###"))
    assert stop_ids(LEGACY, TOKENIZER) == (TOKENIZER.eos_id, mark)
    assert stop_ids(CURRENT, TOKENIZER) == (TOKENIZER.eos_id,)
