"""The table of modalities and what is made of it; the router's trace, captions and picture."""

import inspect
import json
from typing import NamedTuple

import pytest
import torch

from graph_engine import Conversation, Signals, node
from graph_engine.errors import KindError, NodeError, RegistryError
from graph_engine.graph.kinds import AUDIO, IMAGE, VIDEO
from graph_engine.graph.outcome import Skip
from nodes.nextgpt import captions, glyphs, heat_strip, modality
from nodes.nextgpt.assemble import assemble
from nodes.nextgpt.glyphs import line
from nodes.nextgpt.heat_strip import HUES, level, sure
from nodes.nextgpt.kinds import GENERATION, REPLY
from nodes.nextgpt.modality import SHIPPED, SPOKEN, Modality, stamped, table
from nodes.nextgpt.model.signals import SignalPolicy, SignalRunProcessor, SignalVocabulary, scan
from nodes.nextgpt.per_modality import Port, per_modality
from nodes.nextgpt.reason import reason
from nodes.nextgpt.route import route
from nodes.nextgpt.trace import in_words, trace_of
from nodes.nextgpt.trace_picture import trace_picture
from tests.contexts import FolderContext

torch.set_num_threads(1)
VOCABULARY = SignalVocabulary.create(100)
END = 9


def answer(*said, vocabulary=VOCABULARY, reasons=(), **more):
    """A GENERATION of words and runs (the name of a modality); `reasons` explain the runs in order."""
    ids, pieces, runs = [], [], []
    reasons = iter(reasons)
    for entry in said:
        run = vocabulary.tokens.get(entry)
        if run:
            reason = next(reasons, None)
            if reason:
                runs.append(
                    {"modality": entry, "position": len(ids), "token": run[0], "probability": 0.25, "reason": reason}
                )
        ids += run or [5]
        pieces += [""] * len(run) if run else [entry]
    rows = torch.arange(len(ids), dtype=torch.float32)[:, None].expand(-1, 4).clone()
    return {
        "ids": ids,
        "pieces": pieces,
        "hidden": rows,
        "embeds": rows + 0.5,
        "runs": runs,
        "vocabulary": vocabulary.to_json(),
        "wishes": {},
        "stop_length": 0,
        "finished": "stop",
        **more,
    }


# --- the table and its ports ----------------------------------------------------------------------------------------


def test_the_ports_of_saved_workflows_keep_their_names():
    from nodes.nextgpt import load as load_node

    ports = {
        "reason": [port.name for port in reason.node_type.inputs][-6:],
        "route": [port.name for port in route.node_type.outputs],
        "assemble": [port.name for port in assemble.node_type.inputs],
        "load": [port.name for port in load_node.node_type.outputs],
    }
    assert ports == {
        "reason": ["image", "video", "audio", "max_images", "max_videos", "max_sounds"],
        "route": ["text", "image", "video", "audio", "reply", "trace", "events"],
        "assemble": ["reply", "images", "videos", "audios", "previous"],
        "load": [
            "encoder",
            "input_projector",
            "language_model",
            "image_projector",
            "image_decoder",
            "video_projector",
            "video_decoder",
            "audio_projector",
            "audio_decoder",
        ],
    }
    assert [port.kind for port in assemble.node_type.inputs[1:4]] == [IMAGE, VIDEO, AUDIO]
    assert all(port.as_list and not port.required for port in assemble.node_type.inputs[1:4])
    wish, limit = reason.node_type.input("video"), reason.node_type.input("max_sounds")
    assert (wish.default, wish.widget.options) == ("auto", ("auto", "always", "never"))
    assert (limit.default, limit.widget.min, limit.widget.max) == (1, 1, 16)


def test_one_parameter_is_a_port_per_row():
    @per_modality(wish=lambda row: Port(row.name, int, 3), media=lambda row: Port(f"{row.name}s", list[row.media]))
    def gathered(a: str, *, wish: dict, b: str = "b", media: dict) -> Conversation:
        return [a, wish, b, media]

    type = node(id="test.gathered")(gathered).node_type
    assert [port.name for port in type.inputs] == ["a", "image", "video", "audio", "b", "images", "videos", "audios"]
    assert [port.required for port in type.inputs] == [True, False, False, False, False, True, True, True]
    assert gathered("x", video=7, images=1, videos=2, audios=3) == [
        "x",
        {"image": 3, "video": 7, "audio": 3},
        "b",
        {"image": 1, "video": 2, "audio": 3},
    ]
    with pytest.raises(TypeError, match="images"):
        gathered("x")
    with pytest.raises(TypeError, match="wish"):
        gathered("x", wish={}, images=1, videos=2, audios=3)
    assert list(inspect.signature(gathered).parameters) == [port.name for port in type.inputs]


def test_ports_are_made_of_what_is_there():
    with pytest.raises(TypeError, match="has no media to make ports of"):

        @per_modality(media=lambda row: Port(row.name, int))
        def without(a: str) -> str:
            return a


def test_one_field_is_an_output_per_row():
    @per_modality(each=lambda row: [Port(f"{row.name}_a", list[Signals]), Port(f"{row.name}_b", str)])
    class Form(NamedTuple):
        """Kept."""

        first: str
        each: Signals
        last: int

    names = ["first", "image_a", "image_b", "video_a", "video_b", "audio_a", "audio_b", "last"]
    assert list(Form._fields) == names
    assert Form.__doc__ == "Kept."

    def formed() -> Form:
        return Form(*range(8))

    formed.__annotations__["return"] = Form
    type = node(id="test.formed")(formed).node_type
    assert [(port.name, str(port.kind), port.as_list) for port in type.outputs][1:3] == [
        ("image_a", "SIGNALS", True),
        ("image_b", "STRING", False),
    ]


def row(name, **more):
    spoken = {"signals": 2, "condition": (1, 2), "decoder": "d", "module": "m", "noun": "n", "kind": IMAGE}
    return Modality(name, "vision", **{**spoken, **more})


def test_rows_of_packages_follow_the_shipped_ones():
    rows = table(SHIPPED, [("pack", row("zebra")), ("other", row("ant"))])
    assert [entry.name for entry in rows[len(SHIPPED) :]] == ["ant", "zebra"]
    assert rows[: len(SHIPPED)] == SHIPPED
    for taken in ("image", "depth"):
        with pytest.raises(RegistryError, match=f"'{taken}' of the package pack is in the table"):
            table(SHIPPED, [("pack", row(taken))])
    with pytest.raises(RegistryError, match="'ant' of the package other"):
        table(SHIPPED, [("pack", row("ant")), ("other", row("ant"))])


@pytest.mark.parametrize("field", ["condition", "decoder", "module", "noun", "kind"])
def test_a_row_with_signal_tokens_needs_all_that_a_decoder_needs(field):
    empty = {"condition": (0, 2), "kind": None}
    with pytest.raises(ValueError, match=f"no {field}$"):
        row("ant", **{field: empty.get(field, "")})
    with pytest.raises(ValueError, match="needs a name"):
        row("an ant")


def test_another_table_is_another_version(monkeypatch):
    assert stamped("1.2.0") == "1.2.0"
    monkeypatch.setattr(modality, "TABLE", (*SHIPPED, row("ant")))
    assert stamped("1.2.0") == "1.2.0+ant2"


# --- the trace ------------------------------------------------------------------------------------------------------


def test_the_trace_is_ordered_and_says_why():
    generation = answer(
        "see ",
        "image",
        " and hear",
        "audio",
        "video",
        " done",
        reasons=["chosen", "ending"],
        wishes={"image": "auto", "audio": "always", "video": "auto"},
        limits={"image": 2, "audio": 1, "video": 1},
    )
    trace = json.loads(json.dumps(trace_of(generation)))
    assert [(event["type"], event.get("modality")) for event in trace["events"]] == [
        ("text", None),
        ("signal", "image"),
        ("text", None),
        ("signal", "audio"),
        ("signal", "video"),
        ("text", None),
    ]
    assert [(event["start"], event["stop"]) for event in trace["events"]] == [
        (0, 1),
        (1, 5),
        (5, 6),
        (6, 14),
        (14, 38),
        (38, 39),
    ]
    image, audio, video = (event for event in trace["events"] if event["type"] == "signal")
    assert (image["reason"], image["probability"], image["order"]) == ("chosen", 0.25, 0)
    assert (audio["reason"], video["reason"], video["probability"]) == ("ending", "given", None)
    assert [event["caption"] for event in (image, audio, video)] == ["see", "and hear", "and hear"]
    assert trace["events"][-1]["text"] == " done", "words after the last run are kept"
    assert trace["modalities"]["image"] == {"wish": "auto", "limit": 2, "items": 1, "outcome": "made"}
    assert trace["warnings"] == []
    routed = route(generation)
    assert routed.events == trace_of(generation)
    assert routed.trace.splitlines() == [
        "picture 1 at token 1: the model asked for it (p = 0.25)",
        "sound 1 at token 6: forced when the model wanted to end (p = 0.25)",
        "video 1 at token 14: in the text given",
        "39 tokens, the model ended its answer",
    ]


def test_captions_are_parallel_to_the_signals():
    generation = answer("a cat ", "image", "image", " its purr ", "audio", " bye", "image", "video")
    routed = route(generation)
    found = captions(routed.reply)
    assert found.image == ["a cat", "a cat", "bye"]
    assert found.audio == ["its purr"]
    assert found.video == ["bye"]
    for name in SPOKEN:
        assert [signals["caption"] for signals in getattr(routed, name)] == getattr(found, name)
    silent = captions(route(answer("image")).reply)
    assert silent.image == [""]
    assert silent.audio == Skip("the language model did not ask for a sound")


def test_a_wish_that_was_not_fulfilled_is_a_warning(tmp_path):
    context = FolderContext(tmp_path)
    generation = answer("only words", wishes={"image": "always", "video": "never"}, finished="length")
    routed = route(generation, context)
    assert context.logged == ["a picture was wished for always, but the answer has none"]
    assert routed.image == Skip("the answer has no picture although it was wished for always")
    assert routed.video.message.endswith("it was forbidden to")
    assert routed.events["modalities"]["image"]["outcome"] == "missing"
    assert "warning: a picture was wished for always" in routed.trace
    assert "the tokens ran out" in routed.trace


def test_only_text_says_what_to_do_about_it():
    assert "set image or audio of nextgpt.reason to 'always'" in route(answer("hm", wishes={"video": "never"})).trace
    forbidden = dict.fromkeys(SPOKEN, "never")
    assert "only text" not in route(answer("hm", wishes=forbidden)).trace, "it is what was wanted"
    assert "only text" not in route(answer("hm", "image")).trace


# --- bad input ------------------------------------------------------------------------------------------------------


def test_signals_that_nothing_here_can_decode_are_told_and_kept():
    foreign = SignalVocabulary.create(50, counts={"image": 2, "smell": 3})
    generation = answer("sniff ", "smell", "look ", "image", vocabulary=foreign)
    routed = route(generation)
    assert routed.events["warnings"] == ["token 1: signals for 'smell', which nothing here can decode"]
    assert [signals["hidden"].shape[0] for signals in routed.image] == [2], (
        "a run is as long as its own vocabulary says"
    )
    assert routed.image[0]["order"] == 1
    assert captions(routed.reply).image == ["look"]
    done = assemble(routed.reply, images=[torch.zeros(1, 2, 2, 3)])
    assert done.reply_text == "sniff [smell 1: not made]look [picture 1]"
    assert done.conversation[0]["parts"][1] == {
        "type": "signal",
        "modality": "smell",
        "order": 0,
        "missing": "nothing made it",
    }
    assert trace_picture(generation, 600, 16).shape[2] == 600


def test_an_answer_of_another_vocabulary_is_read_with_its_own():
    generation = answer("a", "image", "audio", vocabulary=SignalVocabulary.create(5000, "current"))
    assert [event["type"] for event in route(generation).reply] == ["text", "signal", "signal"]
    generation["vocabulary"] = VOCABULARY.to_json()
    routed = route(generation)
    assert [event["type"] for event in routed.reply] == ["text"], "other ids are words of other models"
    assert isinstance(routed.image, Skip)


@pytest.mark.parametrize("vocabulary", [None, {}, {"tokens": {"image": [1]}, "texts": {}}, {"tokens": 3, "texts": 4}])
def test_a_vocabulary_that_cannot_be_read_is_named(vocabulary):
    with pytest.raises(NodeError) as caught:
        route(answer("a", "image") | {"vocabulary": vocabulary})
    assert (caught.value.problem.code, caught.value.problem.port) == ("bad_generation", "generation")


@pytest.mark.parametrize(
    "change", [{"runs": [3]}, {"runs": None}, {"pieces": ["a"]}, {"hidden": torch.zeros(2, 4)}, {"ids": None}]
)
def test_a_generation_with_holes_is_no_generation(change):
    whole = answer("a", "image")
    assert GENERATION.check(whole) is whole
    with pytest.raises((KindError, TypeError)):
        GENERATION.check({**whole, **change})


@pytest.mark.parametrize(
    "event",
    [
        None,
        3,
        {},
        {"type": "text"},
        {"type": "text", "text": None},
        {"type": "smell"},
        {"type": "signal", "order": 0},
        {"type": "signal", "modality": "image"},
        {"type": "signal", "modality": None, "order": 1},
        Skip("gone"),
    ],
)
def test_a_reply_with_holes_is_no_reply(event):
    good = {"type": "signal", "modality": "image", "order": 0}
    assert REPLY.check(({"type": "text", "text": ""}, good)) == [{"type": "text", "text": ""}, good]
    with pytest.raises(KindError, match="event 1 of a REPLY"):
        REPLY.check([good, event])


def test_broken_runs_never_crash():
    for cut in range(1, 38):
        whole = answer("a", "video", "b", "image", "audio")
        short = {**whole, **{name: whole[name][:-cut] for name in ("ids", "pieces", "hidden", "embeds")}}
        routed = route(short)
        assert routed.text == ("ab" if cut <= 12 else "a")
        assert len(routed.events["events"]) == len(scan(short["ids"], VOCABULARY))
        broken = [event for event in routed.events["events"] if event["type"] == "broken"]
        assert bool(broken) == any("broken run" in warning for warning in routed.events["warnings"])
        assert trace_picture(short, 480, 10).shape[0] == 1


# --- runs that are not completed for the model ----------------------------------------------------------------------


def speak(choices, policy, vocabulary, budget=20):
    processor = SignalRunProcessor(vocabulary, policy, budget, (END,))
    script = list(choices)
    while processor.finished is None:
        token = processor.required()
        if token is None:
            token = script.pop(0)
            if token in processor.banned():
                token = 1
        processor.take(token, lambda token: 0.5)
    return processor.ids


def test_without_completion_the_model_says_every_token_itself():
    small = SignalVocabulary.create(100, counts={"image": 2, "audio": 3})  # image 102-103, audio 104-106
    said = [1, 102, 1, 104, 105, 106, 103, END]
    free = SignalPolicy(complete_runs=False)
    assert speak(said, SignalPolicy(), small)[:3] == [1, 102, 103], "as a rule a run that was begun is completed"
    assert speak(said, free, small) == said
    kinds = [type(event).__name__ for event in scan(said, small)]
    assert kinds == ["Text", "Broken", "Text", "Media", "Broken", "Text"]
    never = SignalPolicy({"audio": "never"}, complete_runs=False)
    assert speak(said, never, small) == [1, 102, 1, 1, 1, 1, 103, END], "no token of a forbidden modality"
    always = SignalPolicy({"image": "always"}, complete_runs=False)
    assert speak([1, 102, 1, END], always, small) == [1, 102, 103, 1, END], "what was demanded is complete"
    assert speak([1, END], always, small) == [1, 102, 103]


# --- the picture ----------------------------------------------------------------------------------------------------


def pixels(picture):
    """The colours of a picture, as '#rrggbb' -> how many pixels."""
    values = (picture[0] * 255).round().to(torch.int64)
    colours, counts = (values @ torch.tensor([65536, 256, 1])).unique(return_counts=True)
    return {f"#{colour:06x}": count for colour, count in zip(colours.tolist(), counts.tolist(), strict=True)}


def as_hex(rgb):
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def test_the_picture_shows_confidence_runs_and_mass():
    plain = answer("one", " two", "image", " three", reasons=["chosen"])
    length = len(plain["ids"])
    rich = plain | {
        "confidence": [0.0, 1.0, 0.2, 1, 1, 1, 0.5],
        "signal_mass": {"image": [0.0] * length, "video": [1.0] * length, "audio": [0.0] * length},
    }
    first, second = (pixels(trace_picture(generation)) for generation in (plain, rich))
    wide = 1600 * 10
    for part in (0.0, 0.5, 1.0):
        assert second[as_hex(sure(part))] > 500 > first.get(as_hex(sure(part)), 0), part
    assert first[heat_strip.BLANK] > 3 * 500 and heat_strip.BLANK not in second
    assert first[HUES[0]] > 2000, "the run of the picture is in its colour, with or without a record"
    assert second[HUES[1]] > first[HUES[1]] + wide / 10, "full bars of the video in every place"
    assert abs(second[HUES[2]] - first[HUES[2]]) < 200, "no bar of the sound in either"


def test_bars_are_logarithmic_and_colours_between_their_ends():
    assert [level(value) for value in (0, 1e-9, 1e-6, 1e-3, 1, 5, float("nan"))] == [0, 0, 0, 0.5, 1, 1, 0]
    assert sure(-1) == sure(0) == (244, 164, 138)
    assert sure(0.25) == (250, 202, 167)
    assert sure(2) == sure(1) == (203, 230, 238)


@pytest.mark.parametrize(("tokens", "most"), [(0, 400), (20, 520), (400, 3000)])
def test_the_picture_wraps_and_stays_readable(tokens, most):
    words = [" lighthouse", " at", " the", " sea", ","]
    generation = answer(*(words[index % 5] for index in range(tokens)), confidence=[0.5] * tokens)
    picture = trace_picture(generation)
    assert picture.shape[0] == 1
    assert picture.shape[1] <= most
    assert picture.shape[2:] == (1600, 3)
    assert picture.dtype == torch.float32
    assert 0 <= float(picture.min()) < 0.3 < float(picture.max()) == 1
    narrow = trace_picture(generation, 480, 22)
    assert narrow.shape[1] >= picture.shape[1]
    for side in (narrow, picture):
        assert float(side[0, :, -8:].min()) == 1.0, "nothing runs over the right edge"


def test_of_a_very_long_answer_the_middle_is_left_out():
    many = heat_strip.MOST_TOKENS + 500
    picture = trace_picture(answer(*["a"] * many), 2000, 10)
    most = trace_picture(answer(*["a"] * heat_strip.MOST_TOKENS), 2000, 10)
    assert picture.shape[1] <= most.shape[1] + 60


def test_chinese_without_a_font_is_written_as_code_points(monkeypatch):
    monkeypatch.setattr(glyphs, "FONTS", ())
    for cached in (glyphs.line, glyphs._fonts, glyphs._has):
        cached.cache_clear()
    try:
        set_line = line("灯 light", 20.0)
        assert set_line.lacking == "灯"
        assert "".join(span.text for span in set_line.spans).split() == ["u706F", "light"]
        lit, dark = (trace_picture(answer(word, " on"), 800, 20) for word in ("灯", "塔"))
        assert not torch.equal(lit, dark), "two signs that no font has still differ"
    finally:
        for cached in (glyphs.line, glyphs._fonts, glyphs._has):
            cached.cache_clear()


def test_signs_that_some_font_has_are_drawn():
    assert line("Straße, naïve – 10⁻⁶", 20.0).lacking == ""
    assert line("", 20.0) == ((), 0, "")
    assert line("\u2003", 20.0).lacking == "", "white space is not missing"


@pytest.mark.parametrize("change", [{"confidence": [0.5]}, {"signal_mass": {"image": [0.1] * 3}}])
def test_a_record_of_another_length_is_refused(change):
    with pytest.raises(NodeError, match="for 5 tokens") as caught:
        trace_picture(answer("a", "image") | change)
    assert caught.value.problem.code == "bad_generation"


def test_a_record_may_have_gaps_and_be_of_other_modalities():
    generation = answer("a", "b", confidence=[None, 0.3], signal_mass={"smell": [1.0], "image": [None, 0.5]})
    colours = pixels(trace_picture(generation))
    assert colours[heat_strip.BLANK] > 500
    assert colours[as_hex(sure(0.3))] > 500


def test_the_words_of_a_trace_end_with_how_the_answer_ended():
    for finished, said in (("length", "raise max_new_tokens"), ("cancelled", "it was cancelled"), ("odd", "odd")):
        assert said in in_words(trace_of(answer("a", finished=finished))).splitlines()[-1]
