"""The nodes of a chat: a message with files, what is left of a long talk, media that are seen again."""

import shutil
from pathlib import Path

import pytest
import torch

from graph_engine.errors import NodeError, NotFoundError
from graph_engine.models.load import materialise
from nodes.media.video_file import write_video
from nodes.nextgpt.conversation import conversation, encode_conversation
from nodes.nextgpt.encode import encode_audio, encode_image, encode_video
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.load import NextGpt, load
from nodes.nextgpt.message import message
from nodes.nextgpt.project_in import project_in
from nodes.nextgpt.reason import reason
from nodes.nextgpt.trim import trim_conversation
from tests.contexts import FolderContext

torch.set_num_threads(1)
MEDIA = Path(__file__).resolve().parents[3] / "workflows" / "media"
FAMILY = {family.name: family for family in FAMILIES}


class SmallContext(FolderContext):
    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    found = SmallContext(tmp_path_factory.mktemp("chat"))
    for name in ("lighthouse.png", "bell.wav", "waves.mp4"):
        shutil.copy(MEDIA / name, found.root / "input" / name)
    return found


@pytest.fixture(scope="module")
def tiny(context) -> NextGpt:
    return load(context, "tiny")


def types(turn):
    return [part["type"] for part in turn["parts"]]


def exchange(number, words=3):
    said = f"{number} " * words
    return [
        {"role": "user", "parts": [{"type": "text", "text": said}]},
        {"role": "assistant", "parts": [{"type": "text", "text": said}]},
    ]


def talk(count, words=3):
    """`count` exchanges, and a last question."""
    return [turn for number in range(count) for turn in exchange(number, words)] + exchange(count)[:1]


def said(turns):
    return [int(turn["parts"][0]["text"].split()[0]) for turn in turns]


# --- message ----------------------------------------------------------------------------------------------------


def test_files_become_parts_in_their_order(context):
    (turn,) = message(context, "what is it?", ["waves.mp4", "lighthouse.png", "bell.wav", "lighthouse.png"])
    assert types(turn) == ["video", "image", "audio", "image", "text"]
    assert turn["parts"][1]["image"].shape[-1] == 3
    (turn,) = message(context, "look", ["lighthouse.png"], place="after the text")
    assert types(turn) == ["text", "image"]


def test_media_without_words_are_a_message(context):
    (turn,) = message(context, "", ["waves.mp4"])
    assert types(turn) == ["video"]
    (turn,) = message(context, "  \n", ["bell.wav"])
    assert types(turn) == ["audio"]


def test_a_file_is_read_as_what_is_meant(context):
    """An animation is a film unless a picture is wanted; the sound of a film is heard where a sound is wanted."""
    frames = torch.rand(6, 8, 8, 3, generator=torch.Generator().manual_seed(2))
    sound = {"waveform": torch.full((1, 1, 8000), 0.25), "sample_rate": 16_000}
    write_video(context.root / "input" / "moving.gif", {"frames": frames, "fps": 5.0}, "gif")
    write_video(context.root / "input" / "loud.mp4", {"frames": frames, "fps": 12.0, "audio": sound}, "mp4")
    (turn,) = message(context, "", ["moving.gif", "loud.mp4"])
    assert types(turn) == ["video", "video"]
    (turn,) = message(context, "", ["moving.gif", "loud.mp4", "bell.wav"], ["image", "audio"])
    assert types(turn) == ["image", "audio", "audio"]
    assert turn["parts"][1]["audio"]["waveform"].shape[-1] == pytest.approx(8000, abs=2000)
    with pytest.raises(NodeError) as caught:
        message(context, "", ["waves.mp4"], ["image"])
    assert caught.value.problem.code == "unknown_format"
    with pytest.raises(NodeError) as caught:
        message(context, "", ["lighthouse.png"], ["smell"])
    assert (caught.value.problem.code, caught.value.problem.port) == ("unknown_modality", "read_as")


def test_marks_in_the_text_say_where_a_medium_stands(context):
    files = ["lighthouse.png", "bell.wav", "waves.mp4"]
    (turn,) = message(context, "First <video> then <image>, not <image>.", files)
    assert types(turn) == ["audio", "text", "video", "text", "image", "text"]
    assert [part["text"] for part in turn["parts"] if part["type"] == "text"] == ["First ", " then ", ", not <image>."]


def test_a_message_goes_on_from_an_answer(context):
    turns = message(context, "and now?", previous=exchange(0))
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    with pytest.raises(NodeError) as caught:
        message(context, "and now?", previous=exchange(0)[:1])
    assert caught.value.problem.code == "wrong_role"
    with pytest.raises(NodeError) as caught:
        message(context, " ", previous=exchange(0))
    assert caught.value.problem.code == "empty_turn"
    with pytest.raises(NotFoundError, match="nobody"):
        message(context, "x", ["nobody.png"])


# --- encode_conversation ----------------------------------------------------------------------------------------


def test_every_turns_media_are_encoded_again(context, tiny):
    turns = message(context, "", ["waves.mp4"])
    picture = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    signals = [{"type": "signal", "modality": name, "order": order} for order, name in enumerate(["image", "audio"])]
    drawn = {"type": "image", "image": picture, "order": 0}
    turns = [*turns, {"role": "assistant", "parts": [{"type": "text", "text": "so"}, signals[0], drawn, signals[1]]}]
    turns = message(context, "and <audio> with <image>", ["lighthouse.png", "bell.wav"], previous=turns)
    context.progressed.clear()
    seen = encode_conversation(context, turns, tiny.encoder, tiny.input_projector)
    assert [types(turn) for turn in seen] == [
        ["features"],
        ["text", "features", "signal"],
        ["text", "features", "text", "features"],
    ]
    first, drawn, heard, shown = (
        part["tensor"] for turn in seen for part in turn["parts"] if part["type"] == "features"
    )

    def expected(embedding):
        return project_in(context, embedding, tiny.input_projector)["tensor"][0]

    parts = turns[2]["parts"]
    assert torch.equal(first, expected(encode_video(context, turns[0]["parts"][0]["video"], tiny.encoder)))
    assert torch.equal(drawn, expected(encode_image(context, picture, tiny.encoder)))
    assert torch.equal(heard, expected(encode_audio(context, parts[1]["audio"], tiny.encoder)))
    assert torch.equal(shown, expected(encode_image(context, parts[3]["image"], tiny.encoder)))
    told = [text for _, _, text in context.progressed if text]
    assert told == ["video of turn 1", "picture of turn 2", "sound of turn 3", "picture of turn 3"]
    assert len(reason(context, seen, tiny.language_model, max_new_tokens=8)["ids"]) <= 8


# --- trim -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "keep_first", "kept", "dropped"),
    [
        (0, True, [0, 0, 1, 1, 2, 2, 3], ""),
        (4, True, [0, 0, 1, 1, 2, 2, 3], ""),
        (3, True, [0, 0, 1, 1, 2, 2, 3], ""),
        (2, True, [0, 0, 2, 2, 3], "left out turns 3 to 4: the last 2 exchanges are kept."),
        (1, True, [0, 0, 3], "left out turns 3 to 6: the last exchange is kept."),
        (1, False, [3], "left out turns 1 to 6: the last exchange is kept."),
        (2, False, [2, 2, 3], "left out turns 1 to 4: the last 2 exchanges are kept."),
    ],
)
def test_old_exchanges_go_as_a_whole(context, last, keep_first, kept, dropped):
    found = trim_conversation(context, talk(3), exchanges=last, keep_first=keep_first)
    assert said(found.conversation) == kept
    assert found.dropped == dropped
    assert [turn["role"] for turn in found.conversation] == (["user", "assistant"] * 4)[: len(kept)]


def test_what_is_kept_is_what_the_model_can_read(context, tiny):
    """The count is reason's own: one token less of budget drops one exchange more."""
    turns = talk(4, words=20)
    length = reason(context, turns, tiny.language_model, max_new_tokens=1)["prompt_length"]
    whole = trim_conversation(context, turns, tiny.language_model, max_tokens=length + 10, reserve_tokens=10)
    assert whole == (turns, "")
    less = trim_conversation(context, turns, tiny.language_model, max_tokens=length + 9, reserve_tokens=10)
    assert said(less.conversation) == [0, 0, 2, 2, 3, 3, 4]
    left = reason(context, less.conversation, tiny.language_model, max_new_tokens=1)["prompt_length"]
    assert less.dropped == (
        f"left out turns 3 to 4: {length} tokens are more than the {length - 1} there is room for, {left} are left."
    )
    assert less.dropped in context.logged


def test_features_count_as_the_model_sees_them(context, tiny):
    wide = {"tensor": torch.zeros(1, 500, 64), "modality": "image"}
    turns = [*conversation("first"), *exchange(0)[1:]]
    turns = [*conversation("look", image=wide, previous=turns), *exchange(1)[1:]]
    turns = conversation("and now?", previous=turns)
    assert trim_conversation(context, turns, tiny.language_model, max_tokens=700).dropped == ""
    found = trim_conversation(context, turns, tiny.language_model, max_tokens=500)
    assert [types(turn) for turn in found.conversation] == [["text"], ["text"], ["text"]]
    assert found.dropped.startswith("left out turns 3 to 4: ")


def test_a_context_that_overflows_can_be_answered_after_all(context, tiny):
    turns = talk(40, words=30)
    with pytest.raises(NodeError) as caught:
        reason(context, turns, tiny.language_model, max_new_tokens=16)
    assert caught.value.problem.code == "prompt_too_long"
    found = trim_conversation(context, turns, tiny.language_model, reserve_tokens=16)
    assert (said(found.conversation)[0], said(found.conversation)[-1]) == (0, 40)
    assert len(reason(context, found.conversation, tiny.language_model, max_new_tokens=16)["ids"]) <= 16


def test_the_newest_turn_stays_and_the_first_goes_last(context, tiny):
    turns = talk(2, words=20)
    found = trim_conversation(context, turns, tiny.language_model, max_tokens=60, reserve_tokens=0)
    assert said(found.conversation) == [2]
    assert found.dropped.startswith("left out turns 1 to 4: ")
    assert trim_conversation(context, talk(0), tiny.language_model, max_tokens=1).conversation == talk(0)
    assert trim_conversation(context, [], tiny.language_model).conversation == []
