"""CLIP's tokens against fixed vectors of open_clip on the true vocabulary, and against transformers on a small one."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from nodes.nextgpt.model.clip_tokenizer import MERGES_FILE, VOCABULARY, ClipTokenizer, ClipTokenizerError, clean
from nodes.nextgpt.model.preprocess import pad_text_ids

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "data" / "clip_tokens.json").read_text())


def published_list() -> str:
    """The published list of merges, in which only those that the golden texts use are true; each stands at its place.

    A merge that is never applied changes nothing but the numbers of those behind it, so the ids are the published ones.
    The others join a letter at the end of a word to one behind it, which no word has.
    """
    letters = sorted(ByteLevel.alphabet())
    never = (f"{end}</w> {letter}{mark}" for end in letters for letter in letters for mark in ("", "</w>"))
    lines = ["#version: 0.2", *islice(never, VOCABULARY)]
    for number, merge in GOLDEN["merges"].items():
        lines[int(number)] = merge
    return "\n".join(lines)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> ClipTokenizer:
    folder = tmp_path_factory.mktemp("imagebind_huge")
    (folder / MERGES_FILE).write_bytes(gzip.compress(published_list().encode(), 1))
    return ClipTokenizer.from_folder(folder)


@pytest.mark.parametrize("row", GOLDEN["texts"], ids=lambda row: row["text"][:20])
def test_ids_are_those_of_the_original(published: ClipTokenizer, row: dict[str, object]) -> None:
    assert published.encode(str(row["text"])) == [49_406, *row["ids"]]  # type: ignore[misc]


def test_the_control_tokens_are_the_last(published: ClipTokenizer) -> None:
    assert (published.start_id, published.end_id) == (VOCABULARY - 2, VOCABULARY - 1)


def test_a_text_longer_than_the_context_keeps_its_end(published: ClipTokenizer) -> None:
    row = next(row for row in GOLDEN["texts"] if len(row["ids"]) > 77)
    (ids,) = pad_text_ids([published.encode(row["text"])], published.end_id).tolist()
    assert ids == [49_406, *row["ids"][:75], 49_407]


def test_nobody_ends_a_text_by_spelling_the_end(published: ClipTokenizer) -> None:
    ids = published.encode("a <|endoftext|> b <|startoftext|>")
    assert published.end_id not in ids and ids.count(published.start_id) == 1


SMALL_MERGES = ["c a", "ca t</w>", "p h", "ph o", "t o</w>", "pho to</w>", "' s</w>", "Ã ©</w>"]


def small_folder(folder: Path, form: str) -> Path:
    """A small CLIP vocabulary as transformers saves it."""
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pairs = [tuple(merge.split()) for merge in SMALL_MERGES]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, pairs)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if form == "tokenizer.json":
        CLIPTokenizer(vocab=vocabulary, merges=pairs).save_pretrained(folder)
    else:
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(SMALL_MERGES) + "\n")
    return folder


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_both_forms_of_a_clip_folder_equal_transformers(tmp_path: Path, form: str) -> None:
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(small_folder(tmp_path, form))
    ours = ClipTokenizer.from_folder(tmp_path)

    @settings(deadline=None, max_examples=100)
    @given(st.text(st.sampled_from("cat photo's é12,.!\n\tÀ'dreK"), max_size=30))
    def same(text: str) -> None:
        assert [*ours.encode(text), ours.end_id] == theirs(text)["input_ids"]

    same()
    assert [*ours.encode("A cat's PHOTO,  café 12"), ours.end_id] == theirs("A cat's PHOTO,  café 12")["input_ids"]


def test_a_text_is_cleaned_as_in_training() -> None:
    assert clean("  It\u2019s\n&lt;b&gt; R&amp;amp;D ") == "it's <b> r&d"


def test_a_folder_without_a_vocabulary_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ClipTokenizerError, match=r"bpe_simple_vocab_16e6.txt.gz, tokenizer.json or vocab.json"):
        ClipTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        (MERGES_FILE, b"no gzip", "damaged"),
        ("tokenizer.json", b"{", "damaged"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "not that of CLIP"),
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipTokenizerError, match=word):
        ClipTokenizer.from_folder(tmp_path)
