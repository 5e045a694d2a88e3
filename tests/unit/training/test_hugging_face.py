"""Hugging Face data sets on disk: rows become talks, their media files, and what is wrong is named."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from graph_engine.errors import RequestError, StoreError
from nodes.nextgpt.training.data.review_node import find_duplicates
from nodes.nextgpt.training.data.talks import read_set
from nodes.nextgpt.training.media import as_value
from tests.contexts import FolderContext

# Arrow's and dill's modules warn of what this project does not use.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
torch.set_num_threads(1)


def png(colour):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


@pytest.fixture
def datasets():
    return pytest.importorskip(
        "datasets", reason="Hugging Face data sets need the extra: pip install anyloom[datasets]"
    )


@pytest.fixture
def pairs(datasets):
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [png("red"), png("blue"), None], "text": ["a red wall", "a blue wall", "nothing"]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_captioned_pictures_are_pairs(tmp_path, pairs):
    pairs.save_to_disk(str(tmp_path / "walls"))
    found = read_set(tmp_path / "walls")
    assert [talk.kind for talk in found.talks] == ["describe image", "make image"] * 2
    assert found.talks[0].turns[1].parts == ("a red wall",)
    assert as_value(found.talks[3].made[0])[0, 0, 0].tolist() == [0, 0, 1]
    (problem,) = found.problems
    assert problem.code == "bad_record"
    assert problem.place.endswith("walls:3")
    assert read_set(tmp_path / "walls").talks == found.talks, "what is unpacked is not unpacked again"


def test_several_splits_are_one_set(tmp_path, datasets, pairs):
    splits = datasets.DatasetDict({"train": pairs.select([0]), "test": pairs.select([1])})
    splits.save_to_disk(str(tmp_path / "input" / "walls"))
    talks = read_set(tmp_path / "input" / "walls").talks
    assert sorted(talk.captions for talk in talks if talk.captions) == [("a blue wall",), ("a red wall",)]
    context = FolderContext(tmp_path)
    assert "4 conversations, 2 media files" in find_duplicates(context, "walls/dataset_dict.json").summary


def test_conversations_have_their_media_where_their_words_say(tmp_path, datasets):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        }
    )
    talks = [
        [{"role": "user", "content": "<image> What is it?"}, {"role": "assistant", "content": "Red."}],
        [{"role": "user", "content": "Draw blue."}, {"role": "assistant", "content": "Here: <image>"}],
    ]
    rows = {"image": [png("red"), png("blue")], "messages": talks}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "talks"))
    see, make = read_set(tmp_path / "talks").talks
    assert (see.kind, make.kind) == ("describe image", "make image")
    assert see.turns[0].parts[1] == "What is it?"
    assert make.turns[1].parts[0] == "Here:"


@pytest.mark.parametrize("talks", [[["Hello.", "Hi."], ["Draw.", "No."]], ["Hello.", "Draw."]])
def test_messages_that_say_nobodys_name_are_named(tmp_path, datasets, talks):
    datasets.Dataset.from_dict({"messages": talks}).save_to_disk(str(tmp_path / "talks"))
    found = read_set(tmp_path / "talks")
    assert found.talks == ()
    assert [problem.code for problem in found.problems] == ["bad_record"] * 2
    assert "role and content" in found.problems[0].message


def test_a_full_disk_is_named_as_what_it_is(tmp_path, pairs, monkeypatch):
    pairs.save_to_disk(str(tmp_path / "walls"))

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError) as caught:
        read_set(tmp_path / "walls")
    assert caught.value.problem.code == "disk_full"


def test_what_is_damaged_or_lacks_its_reader_is_named(tmp_path, pairs, monkeypatch):
    pairs.save_to_disk(str(tmp_path / "walls"))
    next((tmp_path / "walls").glob("*.arrow")).write_bytes(b"nothing")
    (problem,) = read_set(tmp_path / "walls").problems
    assert problem.code == "unreadable"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError) as raised:
        read_set(tmp_path / "walls")
    assert raised.value.problem.code == "library_missing"
    assert "anyloom[datasets]" in raised.value.problem.remedy
