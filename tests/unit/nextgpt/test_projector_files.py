"""Projectors of any mode and size from a file, through the nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine.errors import ModelError, NodeError
from nodes.nextgpt.model.input_projector import CURRENT_PREFIX, LEGACY_PREFIX, InputProjector, InputProjectorConfig
from nodes.nextgpt.model.output_projector import (
    CURRENT_PREFIXES,
    LEGACY_PREFIXES,
    OutputProjector,
    OutputProjectorConfig,
)
from nodes.nextgpt.project_in import project_in
from nodes.nextgpt.project_out import project_out
from nodes.nextgpt.projector_file import (
    identity_input_projector,
    load_input_projector_file,
    load_output_projector_file,
)
from tests.contexts import ModelsContext

torch.set_num_threads(1)

INPUTS = {
    "linear": InputProjectorConfig("linear", 20, 48),
    "mlp": InputProjectorConfig("mlp", 20, 48, mlp_layers=3),
    "group": InputProjectorConfig(
        "group", 20, 48, width=32, mlp_ratio=2, stage_depths=(2, 1, 1, 3), group_tokens=(6, 3)
    ),
}
OUTPUTS = {
    "transformer": OutputProjectorConfig(
        "transformer", 64, 40, 9, width=32, encoder_layers=2, decoder_layers=3, feed_forward=48
    ),
    "linear": OutputProjectorConfig("linear", 64, 40, 77),
    "qformer": OutputProjectorConfig("qformer", 64, 40, 9, qformer_width=48, qformer_layers=3),
}


@pytest.fixture
def context(tmp_path: Path) -> ModelsContext:
    context = ModelsContext(tmp_path)
    context.models_dir.mkdir()
    return context


def embedding(width: int = 20) -> dict[str, Any]:
    tensor = torch.randn(2, 11, width, generator=torch.Generator().manual_seed(1))
    return {"tensor": tensor, "modality": "image", "form": "patch"}


def signals(modality: str, width: int = 64) -> dict[str, Any]:
    rows = torch.randn(2, 4, width, generator=torch.Generator().manual_seed(2))
    return {"modality": modality, "hidden": rows[0], "embeds": rows[1], "order": 0}


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", LEGACY_PREFIX, CURRENT_PREFIX])
@pytest.mark.parametrize("mode", INPUTS)
def test_an_input_projector_is_read_off_its_file(context: ModelsContext, mode: str, prefix: str) -> None:
    source = InputProjector(INPUTS[mode]).eval()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    if prefix:
        state["model.embed_tokens.weight"] = torch.zeros(3, 48)  # published files hold more than the projector
    save_file(state, context.models_dir / "mine.safetensors")
    spec = load_input_projector_file(context, "mine.safetensors")
    assert InputProjectorConfig.from_dict(spec.config) == (INPUTS[mode])
    ours = project_in(context, embedding(), spec)["tensor"]
    torch.testing.assert_close(ours, source(embedding()["tensor"]))


@torch.no_grad()
@pytest.mark.parametrize("prefixes", [{}, LEGACY_PREFIXES, CURRENT_PREFIXES])
@pytest.mark.parametrize("mode", OUTPUTS)
def test_an_output_projector_is_read_off_its_file(context: ModelsContext, mode: str, prefixes: dict[str, str]) -> None:
    source = OutputProjector(OUTPUTS[mode]).eval()
    state = {prefixes.get("video", "") + key: value for key, value in source.state_dict().items()}
    if prefixes:
        other = OutputProjector(OutputProjectorConfig("linear", 8, 8)).state_dict()
        state |= {prefixes["audio"] + key: value for key, value in other.items()}
    save_file(state, context.models_dir / "mine.safetensors")
    spec = load_output_projector_file(context, "mine.safetensors", "video")
    assert OutputProjectorConfig.from_dict(spec.config) == OUTPUTS[mode]
    given = signals("video")
    ((condition, _),) = project_out(context, given, spec)
    torch.testing.assert_close(condition, source(given["hidden"][None], given["embeds"][None]))


def test_heads_show_in_no_shape_but_in_the_metadata(context: ModelsContext) -> None:
    config = OutputProjectorConfig.tiny("qformer")  # 4 heads
    state = OutputProjector(config).state_dict()
    save_file(state, context.models_dir / "mine.safetensors", {"config": json.dumps(config.to_dict())})
    assert OutputProjectorConfig.from_dict(load_output_projector_file(context, "mine.safetensors").config) == config


def test_identity_hands_the_embedding_on(context: ModelsContext) -> None:
    assert torch.equal(project_in(context, embedding(), identity_input_projector(20))["tensor"], embedding()["tensor"])
    with pytest.raises(NodeError, match="20 wide, the input projector takes 21"):
        project_in(context, embedding(), identity_input_projector(21))


def test_a_projector_of_another_width_names_the_way_out(context: ModelsContext) -> None:
    save_file(OutputProjector(OUTPUTS["linear"]).state_dict(), context.models_dir / "mine.safetensors")
    with pytest.raises(NodeError, match="60 wide, the output projector takes 64") as caught:
        project_out(context, signals("image", 60), load_output_projector_file(context, "mine.safetensors"))
    assert "nextgpt.load_output_projector_file" in caught.value.problem.remedy


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "model_missing"),
        (b"PK\3\4 a pickle", "model_format"),
        ("decoder", "bad_projector"),
        ("cut", "model_damaged"),
        ("outside", "path_outside"),
    ],
)
@pytest.mark.parametrize("load", [load_input_projector_file, load_output_projector_file])
def test_a_wrong_file_is_refused(context: ModelsContext, load: Any, content: Any, code: str) -> None:
    path, name = context.models_dir / "mine.safetensors", "mine.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "outside":
        name = "../mine.safetensors"
    elif content:
        save_file({"unet.conv_in.weight": torch.zeros(8, 8)}, path)
        path.write_bytes(path.read_bytes()[: -10 if content == "cut" else None])
    with pytest.raises((ModelError, NodeError)) as caught:
        load(context, name)
    assert caught.value.problem.code == code
    assert caught.value.problem.remedy


@pytest.mark.parametrize("rows_width", [(77, 768), (77, 1024), (1, 512)])
@pytest.mark.parametrize("mode", ["transformer", "qformer"])
def test_queries_of_every_target_are_wide_enough(mode: str, rows_width: tuple[int, int]) -> None:
    rows, width = rows_width
    torch.manual_seed(0)
    queries = OutputProjector(OutputProjectorConfig(mode, 64, width, rows)).get_parameter("query_embs")
    assert queries.shape[1] == rows
    assert float(queries.detach().std()) >= 0.02


@pytest.mark.parametrize(
    ("mode", "rows", "width", "parameters"),
    [
        # 768 queries of 2 layers: attention to themselves (4 x 768 x 769 + norm), to 4,096-wide states, then out
        ("qformer", 77, 768, 2 * (4 * 768 * 769 + 2 * 768 * 769 + 2 * 768 * 4097 + 2 * 1536) + 77 * 768 + 1536 + 769 * 768),
        ("qformer", 77, 1024, 2 * (6 * 768 * 769 + 2 * 768 * 4097 + 2 * 1536) + 77 * 768 + 1536 + 769 * 1024),
        ("qformer", 1, 512, 2 * (6 * 768 * 769 + 2 * 768 * 4097 + 2 * 1536) + 768 + 1536 + 769 * 512),
        ("linear", 77, 768, 4097 * 768),
        ("linear", 77, 1024, 4097 * 1024),
        ("linear", 1, 512, 4097 * 512),
    ],
)  # fmt: skip
def test_sizes_of_the_other_output_modes(mode: str, rows: int, width: int, parameters: int) -> None:
    with torch.device("meta"):
        projector = OutputProjector(OutputProjectorConfig(mode, 4096, width, rows))
    assert sum(parameter.numel() for parameter in projector.parameters()) == parameters


@pytest.mark.parametrize("config", [*INPUTS.values(), InputProjectorConfig("group"), InputProjectorConfig("mlp")])
def test_shapes_say_the_sizes(config: InputProjectorConfig) -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in InputProjector(config).state_dict().items()}
    assert InputProjectorConfig.of_shapes(shapes) == config
