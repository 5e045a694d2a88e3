"""The parity command: it passes on what was recorded, fails on what was changed, and copes with other sizes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodes.nextgpt.model.imagebind import NEXTGPT_SCALED, ImageBind
from nodes.nextgpt.model.imagebind_config import ImageBindConfig, TrunkSize
from nodes.nextgpt.model.input_projector import InputProjector, InputProjectorConfig
from nodes.nextgpt.model.output_projector import (
    LEGACY_PREFIXES,
    OutputProjector,
    OutputProjectorConfig,
    canonical_state,
)
from tests.golden import parity

torch.set_num_threads(1)
DATA = Path(__file__).parent / "data"


def changed(folder: Path, name: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """One recorded file with another content, and the file that belongs to it; of the projectors the quickest one."""
    beside = {parity.WEIGHTS: parity.IO, parity.IO: parity.WEIGHTS}.get(name)
    if beside:
        (folder / beside).symlink_to(DATA / beside)
    slow = ("group.", "transformer.", "legacy_transformer.")
    tensors = {key: value for key, value in load_file(DATA / name).items() if not key.startswith(slow)}
    change(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name, parity.read(DATA / name)[1])


def test_the_command_prints_every_entry_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden.parity", str(DATA)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 18 and all(row[3] == "ok" and float(row[2]) < 1e-4 for row in rows)
    assert {row[1] for row in rows if row[0] == "projector"} == {
        "group",
        "legacy_linear",
        "legacy_transformer",
        "transformer",
    }
    assert sum(row[0] == "imagebind" for row in rows) == 14


@pytest.mark.parametrize(
    ("name", "key", "entries"),
    [
        (parity.WEIGHTS, "modality_trunks.depth.blocks.1.mlp.fc2.weight", {"legacy.depth", "patch.depth"}),
        (parity.IO, "output.patch.imu", {"patch.imu"}),
        (parity.PROJECTORS, "legacy_linear.output", {"legacy_linear"}),
    ],
)
def test_a_change_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, key: str, entries: set[str]
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[key] = tensors[key] * (1.01 if name == parity.WEIGHTS else 1.001)

    changed(tmp_path, name, change)
    assert parity.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines if "ABOVE" in line} == entries


@pytest.mark.parametrize("value", [float("nan"), "shape"])
def test_what_is_no_number_or_has_another_shape_is_found(tmp_path: Path, value: Any) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        output = tensors["legacy_linear.output"]
        tensors["legacy_linear.output"] = output[:, :3] if value == "shape" else output * value

    changed(tmp_path, parity.PROJECTORS, change)
    assert parity.main([str(tmp_path)]) == 1


def test_other_sizes_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made with our own modules, so this shows only that sizes come from the files."""
    torch.manual_seed(7)
    small = TrunkSize(20, 1, 5)
    config = ImageBindConfig(
        vision=TrunkSize(24, 3, 2),
        audio=small,
        text=TrunkSize(16, 2, 8),
        depth=TrunkSize(32, 1, 4),
        imu=small,
        modalities=("vision", "text", "audio", "depth", "imu"),
        out_dim=12,
        mlp_ratio=2,
        image_size=112,
        vision_frames=3,
        mel_bins=64,
        audio_frames=100,
        text_vocabulary=90,
        text_length=19,
        imu_samples=80,
    )
    encoder = ImageBind(config).eval()
    save_file(encoder.state_dict(), tmp_path / parity.WEIGHTS, {"config": json.dumps(stated(config))})
    inputs = {
        "vision": torch.rand(1, 3, 112, 112),
        "video": torch.rand(1, 3, 3, 3, 112, 112),
        "text": torch.randint(0, 90, (2, 19)),
        "audio": torch.rand(3, 2, 1, 64, 100),
        "depth": torch.rand(1, 1, 112, 112),
        "imu": torch.rand(1, 6, 80),
    }
    recorded = {f"input.{name}": value for name, value in inputs.items()}
    with torch.no_grad():
        for name, value in inputs.items():
            trunk = "vision" if name == "video" else name
            scale = trunk in NEXTGPT_SCALED
            recorded[f"output.legacy.{name}"] = encoder.encode(trunk, value, scale=scale)[:, 0]
            recorded[f"output.patch.{name}"] = encoder.encode(trunk, value, kind="patch", scale=scale)
    save_file({key: value.contiguous() for key, value in recorded.items()}, tmp_path / parity.IO)
    save_projectors(tmp_path / parity.PROJECTORS)
    assert parity.main([str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12 + 5


def stated(config: ImageBindConfig) -> Mapping[str, Any]:
    """The constructor sizes, under the original's names."""
    named: dict[str, Any] = {"out_embed_dim": config.out_dim}
    for name in config.modalities:
        size = config.trunk(name)
        named |= {f"{name}_embed_dim": size.width, f"{name}_num_blocks": size.blocks, f"{name}_num_heads": size.heads}
    return named


@torch.no_grad()
def save_projectors(path: Path) -> None:
    group = InputProjectorConfig("group", 24, 40, width=64, stage_depths=(2, 1, 1), group_tokens=(12, 5))
    transformer = OutputProjectorConfig("transformer", 24, 40, 9, width=64, encoder_layers=2, decoder_layers=3)
    tensors: dict[str, Tensor] = {}
    metadata = {}
    for name, projector in {
        "group": InputProjector(group),
        "mlp": InputProjector(InputProjectorConfig("mlp", 24, 40)),
        "linear_out": OutputProjector(OutputProjectorConfig("linear", 24, 40, 3)),
        "transformer": OutputProjector(transformer),
        "prefixed": OutputProjector(transformer),
    }.items():
        prefix = LEGACY_PREFIXES["audio"] if name == "prefixed" else ""
        shapes = {prefix + key: list(value.shape) for key, value in projector.state_dict().items()}
        state = parity.formula_state(shapes)
        projector.eval().load_state_dict(
            canonical_state(state, prefix) if isinstance(projector, OutputProjector) else state
        )
        inputs = [torch.randn(2, 6, 24) for _ in range(2 if isinstance(projector, OutputProjector) else 1)]
        tensors |= {f"{name}.input.{index}": value for index, value in enumerate(inputs)}
        tensors[f"{name}.output"] = projector(*inputs)
        metadata[name] = json.dumps({"keys": shapes})
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("empty", "holds neither"),
        ("half", "belong together"),
        ("cut", "cannot be read"),
        ("no metadata", "no JSON object 'config'"),
        ("no sizes", "vision_num_heads"),
        ("missing key", "Missing key"),
        ("no input", "with an input.NAME beside it"),
        ("foreign projector", "no input projector"),
    ],
)
def test_what_is_no_reference_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, word: str
) -> None:
    match damage:
        case "half":
            shutil.copy(DATA / parity.IO, tmp_path)
        case "cut":
            (tmp_path / parity.PROJECTORS).write_bytes((DATA / parity.PROJECTORS).read_bytes()[:1000])
        case "missing key":
            changed(tmp_path, parity.WEIGHTS, lambda tensors: tensors.pop("modality_heads.imu.0.bias"))
        case "no input":
            changed(tmp_path, parity.IO, lambda tensors: tensors.pop("input.audio"))
        case "no metadata" | "no sizes":
            changed(tmp_path, parity.WEIGHTS, lambda _: None)
            metadata = {"config": "{}"} if damage == "no sizes" else None
            save_file(load_file(DATA / parity.WEIGHTS), tmp_path / parity.WEIGHTS, metadata)
        case "foreign projector":
            tensors = {"x.input.0": torch.zeros(1, 1, 2), "x.output": torch.zeros(1, 1, 2)}
            save_file(tensors, tmp_path / parity.PROJECTORS, {"x": json.dumps({"keys": {"conv.weight": [2, 2]}})})
    assert parity.main([str(tmp_path)]) == 2
    assert word in capsys.readouterr().err


def test_the_command_wants_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([]) == 2
    assert "usage" in capsys.readouterr().err
