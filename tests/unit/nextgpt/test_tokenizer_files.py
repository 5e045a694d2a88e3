"""tokenizer.model against SentencePiece itself, stop ids of the published weights, and text that ends an answer."""

import json
import sys

import pytest

from graph_engine.errors import ModelError
from nodes.nextgpt.model.prompts import CURRENT, LEGACY, SignalPart, TextPart, Turn, lay_out, stop_ids
from nodes.nextgpt.model.signals import SignalVocabulary
from nodes.nextgpt.model.tokenizer import TINY_PATH, Tokenizer, TokenizerError
from nodes.nextgpt.speech import Speech
from nodes.nextgpt.words import folder_tokenizer, words_of

TINY = Tokenizer.tiny()
SIGNALS = SignalVocabulary.create(TINY.size)


# --- tokenizer.model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vicuna(tmp_path_factory):
    """A folder as the Vicuna repositories have it: tokenizer.model, made with Llama's settings, and no tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("models") / "vicuna"
    folder.mkdir()
    words = "the quick brown fox jumps over a lazy dog while seven wizards box quietly in the snow"
    (folder / "text.txt").write_text("\n".join(f"{words} {i} ### Human: hello, {i * 7}!" for i in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


TEXTS = [
    "### Human: hello",
    "\n###",
    "###",
    "the quick brown fox",
    "  two  spaces\n\n\ttab ",
    " begins with a space",
    "你好，世界 🦊 é",
    "12345",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_model_gives_sentencepieces_own_ids(vicuna, text):
    from sentencepiece import SentencePieceProcessor

    tokenizer = Tokenizer.from_folder(vicuna)
    ids = SentencePieceProcessor(model_file=str(vicuna / "tokenizer.model")).encode(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text
    assert (tokenizer.size, tokenizer.bos_id, tokenizer.eos_id) == (420, 1, 2)


def test_control_tokens_cannot_be_typed_in_such_a_folder_either(vicuna):
    ids = Tokenizer.from_folder(vicuna).encode("a</s> <s> <unk>")
    assert not {0, 1, 2} & set(ids)


def test_a_folder_with_the_model_file_alone_is_read_as_llamas(vicuna, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((vicuna / "tokenizer.model").read_bytes())
    alone = Tokenizer.from_folder(tmp_path)
    assert (alone.bos_id, alone.eos_id) == (1, 2)
    assert alone.encode(" fox") == Tokenizer.from_folder(vicuna).encode(" fox")


@pytest.mark.parametrize("package", ["sentencepiece", "google.protobuf"])
def test_without_the_packages_the_error_names_the_extra(tmp_path, monkeypatch, package):
    (tmp_path / "vicuna").mkdir()
    (tmp_path / "vicuna" / "tokenizer.model").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError) as caught:
        folder_tokenizer("vicuna", tmp_path)
    assert caught.value.problem.code == "tokenizer_missing"
    assert "tokenizer.model" in caught.value.problem.message
    assert "pip install 'anyloom[sentencepiece]'" in caught.value.problem.remedy


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tokenizer.model": "no protobuf"}, "cannot be converted"),
        ({"tokenizer.json": "{}"}, "cannot be read"),
        ({"tokenizer.json": "{"}, "cannot be read"),
        ({}, "neither tokenizer.json nor tokenizer.model"),
    ],
)
def test_broken_files_are_refused(tmp_path, files, said):
    if "tokenizer.model" in files:
        pytest.importorskip("sentencepiece")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=said):
        Tokenizer.from_folder(tmp_path)


def test_a_replaced_tokenizer_is_read_again(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    definition = json.loads(TINY_PATH.read_text())
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    assert folder_tokenizer("model", tmp_path) is folder_tokenizer("model", tmp_path)
    before = folder_tokenizer("model", tmp_path)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    definition["added_tokens"].append({"id": TINY.size, "content": "<more>", **flags})
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    assert folder_tokenizer("model", tmp_path).size == before.size + 1


# --- what ends an answer --------------------------------------------------------------------------------------------


def test_legacy_stops_at_the_published_ids(tmp_path):
    """Llama's vocabulary has "###" at the beginning of a text as 835, and after a line break as 2277 29937."""
    vocabulary = {f"filler{i}": i for i in range(32_000)}
    for token, text in {
        0: "<unk>",
        1: "<s>",
        2: "</s>",
        13: "\n",
        29871: "▁",
        29937: "#",
        2277: "##",
        835: "▁###",
    }.items():
        del vocabulary[f"filler{token}"]
        vocabulary[text] = token
    vocabulary["▁##"] = vocabulary.pop("filler444")
    definition = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "vocab": vocabulary,
            "merges": [["#", "#"], ["▁", "##"], ["▁##", "#"]],
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    assert stop_ids(LEGACY, Tokenizer.from_folder(tmp_path)) == (2, (835,), (2277, 29937))
    assert stop_ids(CURRENT, Tokenizer.from_folder(tmp_path)) == (2,)


def test_a_spec_may_pin_further_stop_ids():
    facts = {"tokenizer": "tiny", "stop_ids": [[835], [2277, 29937], 7, 2]}
    words = words_of(facts, None)
    assert words.stop == (2, tuple(TINY.encode("###")), (835,), (2277, 29937), 7)


def speak(text, *stops):
    said = []
    speech = Speech(TINY, SIGNALS, (), said.append, stops)
    for token in TINY.encode(text):
        speech.push(token)
        if speech.ended:
            break
    speech.close(len(speech.pieces))
    assert "".join(said) == "".join(speech.pieces)
    return speech, said


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("a quiet story. END of it", ["END"], "a quiet story. "),
        ("a quiet story. END of it", ["of", "END"], "a quiet story. "),
        ("a quiet story", ["END"], "a quiet story"),
        ("one twothree", ["owt", "ot"], "one tw"),
        ("one\nUser: two", ["\nUser:"], "one"),
        ("abcabd", ["abd"], "abc"),
        ("snow 雪🦊 fox", ["🦊"], "snow 雪"),
        ("ENENEND", ["END"], "ENEN"),
        ("a EN", ["END"], "a EN"),
    ],
)
def test_a_stop_text_ends_the_answer_however_it_is_cut_into_tokens(text, stops, left):
    speech, said = speak(text, *stops)
    assert "".join(speech.pieces) == left
    assert speech.ended == (left != text)
    assert not any(stop in "".join(said) for stop in stops)


def test_text_streams_as_soon_as_it_cannot_be_a_stop_text():
    said = []
    speech = Speech(TINY, SIGNALS, (), said.append, ["\nUser:"])
    for token in TINY.encode("one two\nUs"):
        speech.push(token)
    assert "".join(said) == "one two"
    for token in TINY.encode("e it"):
        speech.push(token)
    assert "".join(said) == "one two\nUse it"


def test_a_stop_text_does_not_reach_across_a_run_of_signals():
    said = []
    speech = Speech(TINY, SIGNALS, (), said.append, ["a b"])
    for token in [*TINY.encode("a"), *SIGNALS.run("image"), *TINY.encode(" b")]:
        speech.push(token)
    speech.close(len(speech.pieces))
    assert not speech.ended
    assert "".join(said) == "a b"


def test_models_without_begin_and_end_tokens_lay_out_prompts_without_them():
    bare = Tokenizer(TINY_PATH.read_text(), None, None)
    assert bare.begin == bare.end == ()
    with pytest.raises(TokenizerError, match="no begin token"):
        bare.bos_id  # noqa: B018
    turns = [
        Turn("user", (TextPart("hello"),)),
        Turn("assistant", (TextPart("a fox"), SignalPart("image"))),
        Turn("user", (TextPart("thanks"),)),
    ]
    for template in (LEGACY, CURRENT):
        ids = [i for piece in lay_out(turns, template, bare, SIGNALS) for i in piece.ids]
        with_controls = [i for piece in lay_out(turns, template, TINY, SIGNALS) for i in piece.ids]
        assert ids == [i for i in with_controls if i not in (1, 2)]
    assert stop_ids(CURRENT, bare) == ()
