"""The end of a stage: all that it leaves counts, or nothing, whatever comes between."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from graph_engine.errors import StoreError
from nodes.nextgpt.training import loop
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan

torch.set_num_threads(1)


def parts(folder: Path) -> Parts:
    return Parts("tiny", folder, folder / "models")


def weights(folder: Path, part: str = "language_model") -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights" / f"{part}.safetensors")


FOLDED = Plan(
    preset="tiny", stage="instruction", steps=2, batch=2, rank=2, learning_rate=1e-2, warmup=0.0, denoise_weight=0.0
)


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folded")
    train(FOLDED, parts(folder), "three")
    return folder


def same(folder: Path, other: Path) -> bool:
    names = sorted(path.stem for path in (other / "weights").glob("*.safetensors"))
    assert names == sorted(path.stem for path in (folder / "weights").iterdir())
    pairs = [(weights(folder, name), weights(other, name)) for name in names]
    return all(torch.equal(ours[key], theirs[key]) for ours, theirs in pairs for key in theirs)


def test_an_adapter_is_folded_once_however_its_end_was_interrupted(folded, tmp_path, monkeypatch):
    """On a disk that is full when the language model is written and the next part is not."""
    real = os.fsync

    def full(file):
        if list((tmp_path / "weights").glob("image_projector*.part")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        train(FOLDED, parts(tmp_path), "three")
    assert not list((tmp_path / "weights").glob("*.safetensors")), "nothing counts before all of it is there"
    monkeypatch.undo()
    assert train(FOLDED, parts(tmp_path), "three", resume=True).status == "finished"
    assert same(tmp_path, folded)


def test_what_a_stage_left_counts_from_the_moment_it_is_done(folded, tmp_path, monkeypatch):
    def died(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "settle", died)
    with pytest.raises(KeyboardInterrupt):
        train(FOLDED, parts(tmp_path), "three")
    monkeypatch.undo()
    # Of a stage that is not done, whatever it left.
    stray = tmp_path / "weights" / "image_projector.safetensors.four.new"
    stray.write_bytes(b"half")
    assert train(FOLDED, parts(tmp_path), "three", resume=True).status == "before"
    stray.unlink()
    assert same(tmp_path, folded)


def test_an_adapters_settings_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    real = os.fsync

    def full(file):
        if list((tmp_path / "three" / "adapter").glob("*.json*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"adapter_config\.json cannot be written: No space left"):
        train(FOLDED, parts(tmp_path), "three")
    assert [path.name for path in (tmp_path / "three" / "adapter").iterdir()] == ["adapter_model.safetensors"]
