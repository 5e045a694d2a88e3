"""Each kind's convention: what it takes, in which form it hands it on, and what it says when it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
import torch

from graph_engine.errors import KindError
from graph_engine.graph import kinds
from graph_engine.graph.kinds import Kind, describe


def picture(*shape: int, value: float = 0.5) -> torch.Tensor:
    return torch.full(shape, value)


def audio(**changes: Any) -> dict[str, Any]:
    return {"waveform": torch.zeros(1, 2, 100), "sample_rate": 16_000, **changes}


def video(**changes: Any) -> dict[str, Any]:
    return {"frames": picture(2, 4, 4, 3), "fps": 8, **changes}


def embedding(**changes: Any) -> dict[str, Any]:
    return {"tensor": picture(1, 1, 8), "modality": "image", "form": "global", **changes}


def signals(**changes: Any) -> dict[str, Any]:
    return {"modality": "image", "hidden": picture(4, 8), "embeds": picture(4, 8), "order": 0, **changes}


ACCEPTED: list[tuple[Kind, Any, Any]] = [
    (kinds.STRING, "", ""),
    (kinds.STRING, "ü\U0001f600", "ü\U0001f600"),
    (kinds.INT, 3, 3),
    (kinds.INT, 3.0, 3),
    (kinds.INT, -0.0, 0),
    (kinds.INT, 10**400, 10**400),
    (kinds.FLOAT, 3, 3.0),
    (kinds.FLOAT, 1e300, 1e300),
    (kinds.BOOLEAN, False, False),
    (kinds.COMBO, "nearest", "nearest"),
    (kinds.JSON, {"a": [1, None]}, {"a": [1, None]}),
    (kinds.ANY, None, None),
]

REFUSED: list[tuple[Kind, Any, str]] = [
    (kinds.STRING, 3, "expected text, got int 3"),
    (kinds.STRING, None, "expected text, got NoneType"),
    (kinds.STRING, 10**5000, "expected text, got int without a readable form"),
    (kinds.INT, True, "expected a whole number, got bool True"),
    (kinds.INT, 3.5, "float 3.5"),
    (kinds.INT, math.nan, "float nan"),
    (kinds.INT, math.inf, "float inf"),
    (kinds.INT, "3", "str '3'"),
    (kinds.FLOAT, True, "expected a number, got bool True"),
    (kinds.FLOAT, math.nan, "expected a finite number, got nan"),
    (kinds.FLOAT, -math.inf, "expected a finite number, got -inf"),
    (kinds.FLOAT, 10**400, "ordinary size"),
    (kinds.FLOAT, 10**5000, "ordinary size"),
    (kinds.FLOAT, "1.5", "str '1.5'"),
    (kinds.BOOLEAN, 1, "expected true or false, got int 1"),
    (kinds.BOOLEAN, "true", "str 'true'"),
    (kinds.COMBO, ["nearest"], "list ['nearest']"),
    (kinds.IMAGE, "cat.png", "IMAGE must be a tensor B H W C, got str 'cat.png'"),
    (kinds.IMAGE, picture(4, 4, 3), "4 axes B H W C, got float32 tensor 4x4x3"),
    (kinds.IMAGE, picture(1, 4, 4, 2), "1, 3 or 4 channels"),
    (kinds.IMAGE, picture(1, 3, 4, 5), "1, 3 or 4 channels"),
    (kinds.IMAGE, picture(1, 4, 4, 3).double(), "float32, got float64"),
    (kinds.IMAGE, torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "float32, got uint8"),
    (kinds.IMAGE, picture(0, 4, 4, 3), "must not be empty"),
    (kinds.IMAGE, picture(1, 4, 0, 3), "must not be empty"),
    (kinds.IMAGE, picture(1, 4, 4, 3, value=1.01), "0..1, got 1.01..1.01"),
    (kinds.IMAGE, picture(1, 4, 4, 3, value=-0.5), "0..1, got -0.5..-0.5"),
    (kinds.IMAGE, picture(1, 4, 4, 3, value=math.nan), "0..1, got nan..nan"),
    (kinds.IMAGE, picture(1, 4, 4, 3, value=math.inf), "0..1, got inf..inf"),
    (kinds.MASK, picture(1, 4, 4, 1), "3 axes B H W"),
    (kinds.MASK, picture(1, 4, 4, value=255.0), "MASK must lie in 0..1"),
    (kinds.AUDIO, torch.zeros(1, 1, 9), "AUDIO must be a dict with waveform, sample_rate"),
    (kinds.AUDIO, {"waveform": torch.zeros(1, 1, 9)}, "AUDIO lacks sample_rate; it has waveform"),
    (kinds.AUDIO, audio(waveform=torch.zeros(1, 9)), "3 axes B C T"),
    (kinds.AUDIO, audio(waveform=torch.tensor([[[0.0, math.nan]]])), "finite"),
    (kinds.AUDIO, audio(waveform=torch.tensor([[[math.inf, -math.inf]]])), "finite"),
    (kinds.AUDIO, audio(sample_rate=44_100.0), "whole number of hertz"),
    (kinds.AUDIO, audio(sample_rate=True), "whole number of hertz"),
    (kinds.AUDIO, audio(sample_rate=0), "1,000..768,000"),
    (kinds.VIDEO, video(frames=picture(2, 4, 4, 4)), "3 channels"),
    (kinds.VIDEO, video(frames=picture(2, 4, 4, 3, value=2.0)), "VIDEO frames must lie in 0..1"),
    (kinds.VIDEO, video(fps=0), "fps must be in 0..1000"),
    (kinds.VIDEO, video(fps=math.nan), "fps must be in 0..1000"),
    (kinds.VIDEO, video(fps=True), "fps must be in 0..1000"),
    (kinds.VIDEO, video(audio={"waveform": 1}), "AUDIO lacks sample_rate"),
    (kinds.LATENT, {"samples": picture(4, 4)}, "at least three axes"),
    (kinds.LATENT, {"samples": [1]}, "at least three axes"),
    (kinds.LATENT, {}, "LATENT lacks samples; it has nothing"),
    (kinds.CONDITIONING, picture(1, 2, 3), "list of [tensor, dict] pairs"),
    (kinds.CONDITIONING, [[picture(1, 2, 3)]], "list of [tensor, dict] pairs"),
    (kinds.CONDITIONING, [["words", {}]], "list of [tensor, dict] pairs"),
    (kinds.CONDITIONING, [[picture(1, 2, 3), None]], "list of [tensor, dict] pairs"),
    (kinds.EMBEDDING, embedding(tensor=picture(1, 8)), "3 axes B N D"),
    (kinds.EMBEDDING, embedding(form="pooled"), "'global' or 'patch', got str 'pooled'"),
    (kinds.EMBEDDING, {"tensor": picture(1, 1, 8)}, "lacks modality, form"),
    (kinds.TOKENS, {"tensor": picture(1, 8), "modality": "image"}, "3 axes B M H"),
    (kinds.SIGNALS, signals(hidden=picture(1, 4, 8)), "SIGNALS hidden must have the 2 axes N H"),
    (kinds.SIGNALS, signals(embeds=[1]), "SIGNALS embeds must be a tensor"),
    (kinds.CONVERSATION, "hello", "list of turns"),
    (kinds.CONVERSATION, [{"role": "user"}], "turn 0 lacks parts"),
    (kinds.CONVERSATION, [{"role": "user", "parts": [{"text": "hi"}]}], "a part of CONVERSATION turn 0 lacks type"),
    (kinds.FILE, "out.png", "FILE must be a dict"),
    (kinds.FILE, {"name": "out.png"}, "lacks folder, media_type"),
    (kinds.ENCODER, {"family": "x"}, "expected a ModelSpec, got dict"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "result"), ACCEPTED, ids=lambda part: repr(part)[:30])
def test_literals_arrive_in_one_form(kind: Kind, value: Any, result: Any) -> None:
    found = kind.check(value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(("kind", "value", "essence"), REFUSED, ids=[f"{k}-{m[:40]}" for k, _, m in REFUSED])
def test_what_is_not_of_the_kind_is_refused_with_the_reason(kind: Kind, value: Any, essence: str) -> None:
    with pytest.raises(KindError) as caught:
        kind.check(value)
    assert essence in caught.value.message
    assert caught.value.to_dict()["code"] == "wrong_value"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_each_channel_count_pass_untouched(channels: int) -> None:
    value = picture(2, 4, 5, channels)
    assert kinds.IMAGE.check(value) is value


def test_rounding_at_the_ends_of_the_range_is_forgiven() -> None:
    kinds.IMAGE.check(picture(1, 2, 2, 3, value=1.00005))
    kinds.MASK.check(picture(1, 2, 2, value=-0.00005))
    with pytest.raises(KindError):
        kinds.IMAGE.check(picture(1, 2, 2, 3, value=1.0002))


def test_one_bad_pixel_is_enough() -> None:
    value = picture(1, 64, 64, 3)
    value[0, 63, 63, 2] = math.nan
    with pytest.raises(KindError):
        kinds.IMAGE.check(value)


def test_numpy_arrays_are_held_to_the_same_convention() -> None:
    kinds.IMAGE.check(numpy.zeros((1, 2, 2, 3), numpy.float32))
    with pytest.raises(KindError, match="float64"):
        kinds.IMAGE.check(numpy.zeros((1, 2, 2, 3)))


def test_a_tensor_with_gradients_is_detached() -> None:
    value = picture(1, 2, 2, 3).requires_grad_(True)
    assert not kinds.IMAGE.check(value).requires_grad


def test_compound_kinds_keep_further_facts() -> None:
    assert kinds.AUDIO.check(audio(source="mic"))["source"] == "mic"
    checked = kinds.VIDEO.check(video(audio=audio(), title="t"))
    assert (checked["fps"], type(checked["fps"]), checked["title"]) == (8.0, float, "t")
    assert kinds.VIDEO.check(video(audio=None))["audio"] is None
    assert kinds.SIGNALS.check(signals(extra=1))["extra"] == 1
    assert kinds.EMBEDDING.check(embedding(form="patch"))["form"] == "patch"


def test_conditioning_is_made_of_fresh_lists() -> None:
    """ComfyUI's nodes write into the dict of a pair; the pair they got must not be the one that is kept."""
    extra = {"pooled": 1}
    given = ((picture(1, 2, 3), extra),)
    result = kinds.CONDITIONING.check(given)
    result[0][1]["pooled"] = 2
    assert extra == {"pooled": 1}
    assert isinstance(result[0], list)
    assert kinds.CONDITIONING.check([]) == []


def test_a_conversation_with_turns_and_parts_passes() -> None:
    turns = [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "parts": []}]
    assert kinds.CONVERSATION.check(tuple(turns)) == turns


@pytest.mark.parametrize(
    ("target", "source", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("FLOAT", "INT", True),
        ("INT", "FLOAT", False),
        ("STRING", "COMBO", True),
        ("COMBO", "STRING", True),
        ("STRING", "INT", False),
        ("BOOLEAN", "INT", False),
        ("*", "IMAGE", True),
        ("IMAGE", "*", True),
        ("JSON", "STRING", False),
    ],
)
def test_which_kinds_may_be_linked(target: str, source: str, fits: bool) -> None:
    assert Kind(target).accepts(Kind(source)) is fits


def test_kinds_are_equal_by_name_alone() -> None:
    assert Kind("LATENT") == kinds.LATENT
    assert {Kind("LATENT"), kinds.LATENT} == {kinds.LATENT}
    assert Kind("LATENT") != "LATENT"


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(1, 2, 3), "float32 tensor 1x2x3"),
        (torch.tensor(1, dtype=torch.bfloat16), "bfloat16 tensor scalar"),
        ({}, "empty dict"),
        ({"a": 1, "b": 2}, "dict with 'a', 'b'"),
        ("x" * 100, "str '" + "x" * 56 + "..."),
        (10**5000, "int without a readable form (ValueError)"),
        (Unreadable(), "Unreadable without a readable form (RuntimeError)"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_any_value_can_be_described(value: Any, text: str) -> None:
    assert describe(value) == text
