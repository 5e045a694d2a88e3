"""Pickled weights become safetensors in a child, and nothing of the file is run."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from graph_engine.errors import ModelError
from graph_engine.models.convert import convert, default_target
from graph_engine.models.header import Header
from graph_engine.models.pickled import Refused, state_of, unpickle
from nodes.nextgpt import preset as presets
from nodes.nextgpt.split import targets
from tests import vendor

torch.set_num_threads(1)


def failure(source: Path, target: Path, **options: Any) -> ModelError:
    before = sorted(path.name for path in target.parent.iterdir())
    with pytest.raises(ModelError) as caught:
        convert(source, {target: ""}, **options)
    assert sorted(path.name for path in target.parent.iterdir()) == before, "nothing is left behind"
    return caught.value


def test_every_tensor_arrives_as_it_was(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    tensors = {
        "half": torch.randn(3, 3).half(),
        "brain": torch.randn(5).bfloat16(),
        "whole": torch.arange(7),
        "truth": torch.tensor([True, False, True]),
        "alone": torch.tensor(2.5, dtype=torch.float64),
        "none": torch.zeros(0, 4),
        "turned": base.t(),
        "tied": base,
        "tied again": base,
        "learned": torch.nn.Parameter(torch.randn(2, 2)),
    }
    source, target = tmp_path / "pytorch_model.bin", tmp_path / "sub" / "model.safetensors"
    torch.save(OrderedDict(tensors), source)
    seen: list[float] = []
    report = convert(source, {target: ""}, on_progress=lambda share, doing: seen.append(share))
    found = load_file(target)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) and found[key].dtype == tensors[key].dtype for key in tensors)
    assert report.files == {str(target): 10} and not report.left_out
    assert report.notes == (
        "2 tensors shared memory with others and now have their own",
        "1 tensors were laid out anew",
    )
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0)
    with safe_open(target, framework="pt") as file:
        told = file.metadata()
    assert told["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest() == report.sha256
    assert told["source"] == "pytorch_model.bin"
    assert all(tensor.shape == tuple(tensors[key].shape) for key, tensor in Header.read(target).tensors.items())


@pytest.mark.parametrize("modern", [True, False], ids=["archive", "before torch 1.6"])
def test_wrappers_are_taken_off_and_said(tmp_path: Path, modern: bool) -> None:
    weights = {f"module.layer.{n}": torch.full((2,), float(n)) for n in range(3)}
    source = tmp_path / "last.ckpt"
    content = {"epoch": 7, "state_dict": {**weights, "module.version": "1.0"}, "name": "x"}
    torch.save(content, source, _use_new_zipfile_serialization=modern)
    tensors, left_out, notes = state_of(unpickle(source))
    assert tensors.keys() == {"layer.0", "layer.1", "layer.2"}
    assert torch.equal(tensors["layer.2"], weights["module.layer.2"])
    assert left_out == {"epoch": "int", "name": "str", "module.version": "str"}
    assert notes == ["the weights lay under 'state_dict'", "the prefix 'module.' of every key was taken off"]


class Harm:
    """What a malicious file does when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.law("P8")
def test_a_malicious_pickle_is_refused(tmp_path: Path) -> None:
    mark, source = tmp_path / "harmed", tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2), "evil": Harm(mark)}, source)
    error = failure(source, tmp_path / "model.safetensors")
    assert error.problem.code == "unsafe_pickle"
    assert error.message == f"{source} was refused: it would load posix.system, and weights must not run code."
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_pickle_of_another_make(tmp_path: Path, protocol: int) -> None:
    mark, source = tmp_path / "harmed", tmp_path / "model.bin"
    source.write_bytes(pickle.dumps(Harm(mark), protocol=protocol))
    with pytest.raises(Refused) as caught:
        unpickle(source)
    assert caught.value.told["code"] == "unsafe_pickle"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no weights at all", "unsafe_pickle"),
        (b"", "model_format"),
        (b"PK\x03\x04" + b"\0" * 100, "model_format"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, code: str) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(content)
    with pytest.raises(Refused) as caught:
        unpickle(source)
    assert caught.value.told["code"] == code
    assert str(source) in str(caught.value)


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    torch.save({"weight": torch.zeros(1000)}, source)
    source.write_bytes(source.read_bytes()[:-500])
    with pytest.raises(Refused) as caught:
        unpickle(source)
    assert caught.value.told["code"] == "model_format" and "cut off" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 1}, "holds no weights but dict"),
        ([torch.zeros(1)], "holds no weights but list"),
        ({"odd": torch.zeros(2, 2).to_sparse(), "even": torch.zeros(1)}, "cannot hold odd"),
    ],
)
def test_a_file_without_weights_and_tensors_that_do_not_fit(content: Any, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        state_of(content)
    assert caught.value.told["code"] == "model_format"


def test_memory_has_a_limit(tmp_path: Path) -> None:
    """A view that repeats one number a billion times is small in the file and huge in memory."""
    source = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1).expand(40_000, 40_000)}, source)
    assert source.stat().st_size < 10_000
    error = failure(source, tmp_path / "model.safetensors", memory_bytes=4 << 30)
    assert error.problem.code == "model_too_large"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    torch.save({"weight": torch.zeros(100_000)}, source)
    (tmp_path / f".{target.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(ModelError) as caught:
        convert(source, {target: ""})
    assert caught.value.problem.code == "disk_full"
    assert "No space left" in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    source, target = tmp_path / "a.pth", tmp_path / "a.safetensors"
    torch.save({"weight": torch.ones(2)}, source)
    target.write_bytes(b"mine")
    assert failure(source, target).problem.code == "target_exists"
    assert target.read_bytes() == b"mine"
    convert(source, {target: ""}, force=True)
    assert torch.equal(load_file(target)["weight"], torch.ones(2))


def test_names_that_libraries_look_for() -> None:
    for name, made in {
        "pytorch_model.bin": "model.safetensors",
        "pytorch_model.pt": "pytorch_model.safetensors",
        "diffusion_pytorch_model.bin": "diffusion_pytorch_model.safetensors",
        "imagebind_huge.pth": "imagebind_huge.safetensors",
    }.items():
        assert default_target(Path("x") / name) == Path("x") / made


def test_the_2023_delta_is_taken_apart(tmp_path: Path) -> None:
    preset = presets.PRESETS["nextgpt-7b-tiva-v0"]
    delta = vendor.legacy_delta()
    source = tmp_path / "pytorch_model.pt"
    torch.save({**delta, "unknown.weight": torch.zeros(3)}, source)
    report = convert(source, targets(preset, None, source, tmp_path / "models"))
    folder = tmp_path / "models" / preset.name
    names = {path.name: Header.read(path).tensors.keys() for path in folder.iterdir()}
    assert set(names) == {
        "input_projector.safetensors", "image_projector.safetensors", "video_projector.safetensors",
        "audio_projector.safetensors", "language_delta.safetensors",
    }  # fmt: skip
    assert set().union(*names.values()) == delta.keys()
    assert sum(map(len, names.values())) == len(delta), "each in one file"
    assert all(key.startswith("gen_text_hidden_fcs_video.") for key in names["video_projector.safetensors"])
    assert len(names["language_delta.safetensors"]) == 2 + 2 * 4 * 2
    assert report.left_out == {"unknown.weight": "tensor (3,) that belongs to no part"}
    found = {key: value for path in folder.iterdir() for key, value in load_file(path).items()}
    assert all(torch.equal(found[key], delta[key]) for key in delta)


@pytest.mark.parametrize(
    ("preset", "part", "source", "target"),
    [
        ("nextgpt-7b-tiva-v0", None, "imagebind_huge.pth", "imagebind_huge/imagebind_huge.safetensors"),
        ("nextgpt-7b-tiva-v0", "encoder", "imagebind_huge.pth", "imagebind_huge/imagebind_huge.safetensors"),
        ("nextgpt-7b-tiva-v0", "encoder", "mine.pth", "imagebind_huge/encoder.safetensors"),
        (
            "nextgpt-7b-tiva-v0",
            "video_decoder",
            "x/vae/diffusion_pytorch_model.bin",
            "zeroscope_v2_576w/vae/diffusion_pytorch_model.safetensors",
        ),
        (
            "nextgpt-7b-tiva-v0",
            "audio_decoder",
            "x/vocoder/pytorch_model.bin",
            "audioldm-l-full/vocoder/model.safetensors",
        ),
        (
            "nextgpt-7b-tiva-v0",
            "video_projector",
            "pytorch_model.pt",
            "nextgpt-7b-tiva-v0/video_projector.safetensors",
        ),
        ("nextgpt-7b-tiva-v0", "language_model", "pytorch_model.pt", "nextgpt-7b-tiva-v0/language_delta.safetensors"),
        (
            "nextgpt-v1.5-7b",
            None,
            "mm_output_projector.bin",
            "checkpoints/pretrain_dec_1/mm_output_projector.safetensors",
        ),
    ],
)
def test_what_is_converted_goes_where_it_is_looked_for(preset: str, part: str | None, source: str, target: str) -> None:
    found = targets(presets.PRESETS[preset], part, Path(source), Path("models"))
    assert [path.absolute() for path in found] == [Path("models", target).absolute()]
