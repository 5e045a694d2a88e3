"""What is finished goes from machine to machine in pieces, and training goes on there with the next stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graph_engine.errors import StoreError
from nodes.nextgpt.training import loop
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parcel import pack, unpack
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan

torch.set_num_threads(1)
PLAN = Plan(preset="tiny", stage="wording", steps=2, batch=2)


def test_finished_stages_travel_and_are_not_trained_again(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    train(PLAN, Parts("tiny", here, tmp_path, anew=True), "words")
    train(replace(PLAN, steps=5), Parts("tiny", here, tmp_path, anew=True), "half done", steps=1)
    pieces = pack(here, tmp_path / "parcel", piece_bytes=200_000)
    assert len(pieces) > 2
    assert all(piece.stat().st_size <= 200_000 for piece in pieces)
    assert unpack(tmp_path / "parcel", there) == ["words"]
    parts = Parts("tiny", there, tmp_path, anew=True)
    assert train(PLAN, parts, "words", resume=True).status == "before"
    sent = Parts("tiny", here, tmp_path, anew=True).get("language_model").state_dict()
    for name, tensor in parts.get("language_model").state_dict().items():
        torch.testing.assert_close(tensor, sent[name], rtol=1e-3, atol=1e-4)
    assert not parts.untaught
    assert train(replace(PLAN, stage="encoding_side"), parts, "see").status == "finished"


def test_a_process_that_died_before_its_weights_were_in_place_left_them_for_the_parcel(tmp_path, monkeypatch):
    def died(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "settle", died)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, Parts("tiny", tmp_path / "here", tmp_path, anew=True), "words")
    pack(tmp_path / "here", tmp_path / "parcel")
    unpack(tmp_path / "parcel", tmp_path / "there")
    assert [path.name for path in (tmp_path / "there" / "weights").iterdir()] == ["language_model.safetensors"]


def test_missing_and_damaged_pieces_are_named(tmp_path):
    with pytest.raises(StoreError, match="no stage is finished"):
        pack(tmp_path, tmp_path / "parcel")
    with pytest.raises(StoreError, match="has none"):
        unpack(tmp_path / "parcel", tmp_path / "there")
    train(PLAN, Parts("tiny", tmp_path, tmp_path, anew=True), "words")
    pieces = pack(tmp_path, tmp_path / "parcel", piece_bytes=300_000)
    pieces[-1].write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read"):
        unpack(tmp_path / "parcel", tmp_path / "there")
    pieces[0].unlink()
    with pytest.raises(StoreError, match="lacks pieces"):
        unpack(tmp_path / "parcel", tmp_path / "there")
