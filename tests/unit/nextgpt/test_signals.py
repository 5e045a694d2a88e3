"""The signal vocabulary, the run state machine and the scan, on plain integers."""

import random

import pytest

from nodes.nextgpt.model.signals import (
    Broken,
    Media,
    SignalPolicy,
    SignalRunProcessor,
    SignalVocabulary,
    Text,
    scan,
    stop_sequences,
)

END = 9
SMALL = SignalVocabulary.create(100, counts={"image": 2, "audio": 3})  # wrap 100-101, image 102-103, audio 104-106


def speak(choices, policy=None, budget=50, stop=(END,), vocabulary=SMALL):
    """Feed a scripted model; when the script is empty it says 1 for ever. The model's own ids are checked for bans."""
    processor = SignalRunProcessor(vocabulary, policy, budget, stop)
    script = list(choices)
    while processor.finished is None:
        token = processor.required()
        if token is None:
            token = script.pop(0) if script else 1
            if token in processor.banned():
                token = 1
        processor.take(token, lambda token: 0.25)
    return processor


def test_legacy_ids_are_the_published_ones():
    vocabulary = SignalVocabulary.create(32000)
    assert vocabulary.wrap == (32000, 32001)
    assert vocabulary.tokens["image"] == (32002, 32003, 32004, 32005)
    assert (vocabulary.tokens["video"][0], vocabulary.tokens["video"][-1]) == (32006, 32029)
    assert (vocabulary.tokens["audio"][0], vocabulary.tokens["audio"][-1]) == (32030, 32037)
    assert vocabulary.size == 32038
    assert vocabulary.text_of()[32006] == "[VID0]"
    assert vocabulary.text_of()[32037] == "[AUD7]"
    assert vocabulary.text_of()[32001] == "</Img>"


def test_current_spelling_has_no_wrap_and_two_digits():
    vocabulary = SignalVocabulary.create(32000, "current")
    assert vocabulary.size == 32036
    assert vocabulary.wrap is None
    assert vocabulary.texts["video"][23] == "<video_23>"
    assert vocabulary.tokens["image"][0] == 32000


def test_vocabulary_round_trips_through_json_and_refuses_nonsense():
    import json

    for spelling in ("legacy", "current"):
        vocabulary = SignalVocabulary.create(10, spelling)
        assert SignalVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    with pytest.raises(ValueError, match="used by two"):
        SignalVocabulary({"image": (1, 2), "audio": (2,)}, {"image": ("a", "b"), "audio": ("c",)})
    with pytest.raises(ValueError, match="as many signal ids"):
        SignalVocabulary({"image": (1, 2)}, {"image": ("a",)})
    with pytest.raises(ValueError, match="unknown spelling"):
        SignalVocabulary.create(0, "klingon")
    with pytest.raises(ValueError, match="no signal tokens for modality 'smell'"):
        SMALL.run("smell")


def test_fifth_modality_is_only_a_new_row():
    vocabulary = SignalVocabulary.create(5, "current", {"image": 1, "smell": 2})
    assert vocabulary.texts["smell"] == ("<smell_00>", "<smell_01>")
    assert vocabulary.tokens["smell"] == (6, 7)


def test_a_run_that_was_begun_is_completed_whatever_the_model_says():
    processor = speak([5, 104, END])
    assert processor.ids == [5, 104, 105, 106, END]
    assert [(t.modality, t.position, t.token, t.reason) for t in processor.trace] == [("audio", 1, 104, "chosen")]
    assert processor.trace[0].probability == 0.25
    assert not processor.trace[0].forced
    assert (processor.finished, processor.stop_length) == ("stop", 1)


def test_continuations_and_wrap_tokens_are_banned_outside_a_run():
    processor = SignalRunProcessor(SMALL, None, 50, (END,))
    assert processor.banned() == {100, 101, 103, 105, 106}
    with pytest.raises(ValueError, match="banned"):
        processor.take(103, lambda token: 1.0)


def test_never_and_the_maximum_number_of_runs_ban_the_first_token():
    assert {102, 104} & SignalRunProcessor(SMALL, SignalPolicy({"image": "never"}), 50).banned() == {102}
    processor = speak([102, 102, 102, END], SignalPolicy(max_runs={"image": 2}))
    assert [t.modality for t in processor.trace] == ["image", "image"]
    assert processor.ids == [102, 103, 102, 103, 1, END]


def test_always_is_emitted_before_the_end_in_the_order_asked_for():
    processor = speak([5, END, 7], SignalPolicy({"audio": "always", "image": "always"}))
    assert processor.ids == [5, 104, 105, 106, 102, 103]
    assert [(t.modality, t.position, t.reason) for t in processor.trace] == [
        ("audio", 1, "ending"),
        ("image", 4, "ending"),
    ]
    assert (processor.finished, processor.stop_length) == ("stop", 0)


def test_always_is_content_with_a_run_the_model_chose():
    processor = speak([102, 5, END], SignalPolicy({"image": "always"}))
    assert processor.ids == [102, 103, 5, END]
    assert [t.forced for t in processor.trace] == [False]


def test_always_keeps_room_in_the_budget():
    processor = speak([], SignalPolicy({"image": "always", "audio": "always"}), budget=8)
    assert processor.ids == [1, 1, 1, 102, 103, 104, 105, 106]
    assert processor.finished == "length"
    assert {t.reason for t in processor.trace} == {"budget"}


def test_a_free_run_may_not_eat_the_room_of_a_demanded_one():
    processor = speak([1, 104], SignalPolicy({"image": "always"}), budget=5)
    assert processor.ids == [1, 1, 1, 102, 103]
    processor = speak([104], SignalPolicy({"image": "always"}), budget=5)
    assert processor.ids == [104, 105, 106, 102, 103]


def test_a_run_that_cannot_be_finished_is_not_begun():
    processor = speak([1, 1, 104, 102], budget=4)
    assert processor.ids == [1, 1, 1, 1]
    assert not processor.trace


def test_impossible_wishes_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match="no room for the 5 signal tokens"):
        SignalRunProcessor(SMALL, SignalPolicy({"image": "always", "audio": "always"}), 4)
    with pytest.raises(ValueError, match="signals only image, audio"):
        SignalRunProcessor(SMALL, SignalPolicy({"video": "always"}), 40)
    with pytest.raises(ValueError, match="at least 1"):
        SignalRunProcessor(None, None, 0)
    with pytest.raises(ValueError, match="not one of"):
        SignalPolicy({"image": "sometimes"})
    with pytest.raises(ValueError, match="at most 0 times"):
        SignalPolicy({"image": "always"}, {"image": 0})


def test_stop_sequences_of_several_tokens():
    assert stop_sequences([835, (2277, 29937)]) == ((835,), (2277, 29937))
    processor = speak([7, 8, 7, 8, 8], stop=[(8, 7), (8, 8, 8)])
    assert processor.ids == [7, 8, 7]
    assert processor.stop_length == 2
    assert speak([8, 8, 7, 8], stop=[(8, 8, 8)], budget=4).finished == "length"
    with pytest.raises(ValueError, match="empty stop"):
        stop_sequences([()])


def test_without_a_vocabulary_it_only_counts_and_stops():
    processor = speak([5, 6, END], vocabulary=None)
    assert processor.ids == [5, 6, END]
    assert processor.finished == "stop"
    with pytest.raises(ValueError, match="already ended"):
        processor.take(1, lambda token: 1.0)


def test_scan_keeps_order_positions_and_the_text_after_the_last_run():
    events = scan([1, 2, 104, 105, 106, 102, 103, 3], SMALL)
    assert events == [
        Text(0, 2, (1, 2)),
        Media(2, 5, "audio", 0),
        Media(5, 7, "image", 1),
        Text(7, 8, (3,)),
    ]
    assert scan([], SMALL) == []


def test_scan_reports_broken_runs_instead_of_failing():
    assert scan([1, 104, 105, 2, 103, 100, 102], SMALL) == [
        Text(0, 1, (1,)),
        Broken(1, 3),
        Text(3, 4, (2,)),
        Broken(4, 7),
    ]
    assert scan([104, 104, 105, 106], SMALL) == [Broken(0, 1), Media(1, 4, "audio", 0)]


def test_scan_covers_every_position_of_any_ids_once():
    source = random.Random(0)
    for _ in range(200):
        ids = [source.choice([1, 2, *SMALL.ids()]) for _ in range(source.randrange(12))]
        events = scan(ids, SMALL)
        assert [p for event in events for p in range(event.start, event.stop)] == list(range(len(ids)))


def test_no_random_model_can_produce_a_broken_run():
    source = random.Random(1)
    for _ in range(300):
        policy = SignalPolicy(
            {m: source.choice(["auto", "always", "never"]) for m in source.sample(["image", "audio"], 2)},
            default_max_runs=source.choice([1, 2]),
        )
        budget = source.randrange(5, 20)
        processor = speak([source.choice([1, 2, END, *SMALL.ids()]) for _ in range(20)], policy, budget)
        events = scan(processor.ids, SMALL)
        assert not any(isinstance(event, Broken) for event in events)
        spoken = [event.modality for event in events if isinstance(event, Media)]
        assert spoken == [entry.modality for entry in processor.trace]
        assert len(processor.ids) <= budget
        for modality in SMALL.modalities:
            assert spoken.count(modality) <= policy.limit(modality)
            assert policy.modes[modality] != "always" or modality in spoken
