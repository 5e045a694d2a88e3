"""Input and output projectors: sizes, modes, names and refusals."""

from __future__ import annotations

import copy
import io
import json

import pytest
import torch
from torch import nn

from nodes.nextgpt.model import input_projector, output_projector
from nodes.nextgpt.model.input_projector import InputProjector, InputProjectorConfig, select_state
from nodes.nextgpt.model.output_projector import (
    CURRENT_PREFIXES,
    LEGACY_PREFIXES,
    OutputProjector,
    OutputProjectorConfig,
    canonical_state,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("mode", "parameters"), [("linear", 4_198_400), ("mlp", 20_979_712), ("group", 53_144_912)])
def test_input_projector_has_the_measured_size(mode: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(InputProjector(InputProjectorConfig(mode))) == parameters


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (OutputProjectorConfig.for_image_sd15(), 31_958_784),
        (OutputProjectorConfig.for_image_sd2(), 32_090_112),
        (OutputProjectorConfig.for_video(), 32_090_112),
        (OutputProjectorConfig.for_audio(), 31_788_544),
    ],
)
def test_output_projector_has_the_measured_size(config: OutputProjectorConfig, parameters: int) -> None:
    with torch.device("meta"):
        assert count(OutputProjector(config)) == parameters


@pytest.mark.parametrize("mode", input_projector.MODES)
def test_input_modes(mode: str) -> None:
    config = InputProjectorConfig.tiny(mode, out_dim=32 if mode == "identity" else 48)
    projector = InputProjector(config).eval()
    for features in (256, 228, 1):
        tokens = projector(torch.randn(2, features, 32))
        assert tokens.shape == (2, 3 if mode == "group" else features, config.out_dim)
        assert tokens.shape[1] == config.token_count(features)


@pytest.mark.parametrize("mode", output_projector.MODES)
@pytest.mark.parametrize("signals", [1, 4, 24])
def test_output_modes(mode: str, signals: int) -> None:
    config = OutputProjectorConfig.tiny(mode, out_dim=20, queries=8)
    projector = OutputProjector(config).eval()
    condition = projector(torch.randn(2, signals, 32), torch.randn(2, signals, 32))
    assert condition.shape == (2, config.row_count(signals), 20)
    assert config.row_count(signals) == (min(signals, 8) if mode == "linear" else 8)


@pytest.mark.parametrize("mode", output_projector.MODES)
def test_output_projector_reads_the_sum(mode: str) -> None:
    projector = OutputProjector(OutputProjectorConfig.tiny(mode)).eval()
    hidden, embeds = torch.randn(2, 1, 4, 32)
    torch.testing.assert_close(projector(hidden, embeds), projector(embeds, hidden))
    assert not torch.allclose(projector(hidden, embeds), projector(hidden, -embeds), atol=1e-4)


@pytest.mark.parametrize(
    "config",
    [InputProjectorConfig("group"), InputProjectorConfig.tiny("mlp"), OutputProjectorConfig.tiny("qformer")],
)
def test_config_survives_json(config: InputProjectorConfig | OutputProjectorConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="widht"):
        type(config).from_dict({"widht": 3})


def test_names_of_the_parameters() -> None:
    assert set(InputProjector(InputProjectorConfig.tiny("linear")).state_dict()) == {"weight", "bias"}
    assert set(InputProjector(InputProjectorConfig.tiny("mlp")).state_dict()) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }
    assert not InputProjector(InputProjectorConfig("identity", 8, 8)).state_dict()
    assert set(OutputProjector(OutputProjectorConfig.tiny("linear")).state_dict()) == {"out_fc.weight", "out_fc.bias"}


@pytest.mark.parametrize(
    "module",
    [InputProjector(InputProjectorConfig.tiny("group")), OutputProjector(OutputProjectorConfig.tiny("qformer"))],
)
def test_a_projector_can_be_copied_and_saved(module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    assert type(twin) is type(module)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)


def test_from_meta() -> None:
    for make, config in (
        (InputProjector, InputProjectorConfig.tiny("group")),
        (OutputProjector, OutputProjectorConfig.tiny("transformer")),
        (OutputProjector, OutputProjectorConfig.tiny("qformer")),
    ):
        source = make(config)  # type: ignore[arg-type]
        with torch.device("meta"):
            empty = make(config)  # type: ignore[arg-type]
        empty.load_state_dict(source.state_dict(), strict=True, assign=True)
        assert not any(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))


def test_group_is_a_sample_in_training_and_fixed_in_eval() -> None:
    torch.manual_seed(5)
    projector = InputProjector(InputProjectorConfig.tiny("group"))
    x = torch.randn(1, 20, 32)
    projector.eval()
    assert torch.equal(projector(x), projector(x))
    projector.train()
    assert not torch.equal(projector(x), projector(x))


def test_group_ignores_the_order_of_patches() -> None:
    torch.manual_seed(6)
    projector = InputProjector(InputProjectorConfig.tiny("group")).eval()
    x = torch.randn(1, 20, 32)
    torch.testing.assert_close(projector(x), projector(x[:, torch.randperm(20)]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_every_parameter_of_group_gets_a_gradient(training: bool) -> None:
    torch.manual_seed(7)
    projector = InputProjector(InputProjectorConfig.tiny("group")).train(training)
    projector(torch.randn(2, 20, 32)).square().sum().backward()
    for name, parameter in projector.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        # A bias of a key shifts all logits over which the soft-max runs alike, so its gradient may vanish.
        if not name.endswith(("k_proj.bias", "assign.q_proj.bias")):
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("mode", ["transformer", "qformer"])
def test_queries_differ_from_the_start(mode: str) -> None:
    torch.manual_seed(8)
    projector = OutputProjector(OutputProjectorConfig.tiny(mode)).eval()
    queries = projector.state_dict()["query_embs"]
    assert 0.02 <= float(queries.std()) < 0.05
    rows = projector(torch.randn(1, 4, 32), torch.randn(1, 4, 32))[0].detach()
    assert float(rows.std(dim=0).max()) > 1e-3


def test_queries_still_differ_in_training() -> None:
    """With equal queries all rows get one gradient and stay equal; ours part."""
    torch.manual_seed(9)
    projector = OutputProjector(OutputProjectorConfig.tiny(queries=4))
    hidden, embeds, target = torch.randn(1, 4, 32), torch.randn(1, 4, 32), torch.randn(1, 4, 32)
    adam = torch.optim.Adam(projector.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (projector(hidden, embeds) - target).norm(dim=-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("prefix", ["", *LEGACY_PREFIXES.values()])
def test_legacy_names_become_canonical(prefix: str) -> None:
    projector = OutputProjector(OutputProjectorConfig.tiny())
    canonical = projector.state_dict()
    legacy = {
        prefix + key.replace("in_fc.", "fc.").replace("out_fc.", "model."): value for key, value in canonical.items()
    }
    legacy_before = dict(legacy)
    renamed = canonical_state({**legacy, **({"llama_proj.weight": torch.zeros(1)} if prefix else {})}, prefix)
    assert renamed.keys() == canonical.keys()
    assert legacy == legacy_before
    projector.load_state_dict(renamed, strict=True)
    assert canonical_state(renamed).keys() == canonical.keys()  # nothing left to rename


def test_prefixes_are_told_apart() -> None:
    state = {
        prefix + "fc.weight": torch.full((1,), float(index)) for index, prefix in enumerate(LEGACY_PREFIXES.values())
    }
    state |= {prefix + "in_fc.weight": torch.full((1,), 9.0) for prefix in CURRENT_PREFIXES.values()}
    for index, prefix in enumerate(LEGACY_PREFIXES.values()):
        assert canonical_state(state, prefix) == {"in_fc.weight": torch.tensor([float(index)])}
    assert canonical_state(state, CURRENT_PREFIXES["audio"]).keys() == {"in_fc.weight"}


def test_select_state() -> None:
    state = {"llama_proj.weight": torch.ones(2), "other.weight": torch.zeros(2)}
    assert select_state(state, input_projector.LEGACY_PREFIX).keys() == {"weight"}
    with pytest.raises(ValueError, match="mm_input_projector"):
        select_state(state, input_projector.CURRENT_PREFIX)
    with pytest.raises(ValueError, match="gen_text_hidden_fcs"):
        canonical_state(state, LEGACY_PREFIXES["image"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"mode": "mlp2x"}, "choose one of"),
        ({"mode": "identity"}, "make them equal"),
        ({"mode": "mlp", "mlp_layers": 0}, "at least 1"),
        ({"mode": "group", "heads": 7}, "multiple"),
        ({"mode": "group", "group_tokens": ()}, "group_tokens"),
        ({"mode": "group", "group_tokens": (8, 0)}, "group_tokens"),
        ({"mode": "group", "group_tokens": (8, 4, 2, 1)}, "group_tokens"),
    ],
)
def test_input_configs_that_make_no_sense(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        InputProjectorConfig(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"mode": "conv"}, "choose one of"), ({"queries": 0}, "positive"), ({"heads": 3}, "multiples")],
)
def test_output_configs_that_make_no_sense(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        OutputProjectorConfig(**arguments)  # type: ignore[arg-type]


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    project_in = InputProjector(InputProjectorConfig.tiny())
    for shape in ((2, 32), (2, 4, 31), (2, 0, 32)):
        with pytest.raises(ValueError, match="in_dim"):
            project_in(torch.zeros(shape))
    project_out = OutputProjector(OutputProjectorConfig.tiny())
    for hidden, embeds in (((4, 32), (4, 32)), ((1, 4, 31), (1, 4, 31)), ((1, 4, 32), (1, 3, 32)), ((1, 0, 32),) * 2):
        with pytest.raises(ValueError, match="in_dim"):
            project_out(torch.zeros(hidden), torch.zeros(embeds))


@torch.no_grad()
def test_qformer_equals_torchs_attention_in_post_norm() -> None:
    torch.manual_seed(10)
    projector = OutputProjector(OutputProjectorConfig.tiny("qformer", in_dim=20)).eval()
    state = projector.state_dict()

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / centred.square().mean(dim=-1, keepdim=True).add(1e-12).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attend(name: str, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        query, key, value = linear(f"{name}.query", x), linear(f"{name}.key", memory), linear(f"{name}.value", memory)
        heads = []
        for part in range(4):  # 4 heads of 8 channels
            at = slice(8 * part, 8 * part + 8)
            weight = (query[:, at] @ key[:, at].T / 8**0.5).softmax(dim=-1)
            heads.append(weight @ value[:, at])
        return norm(f"{name}.norm", x + linear(f"{name}.out", torch.cat(heads, dim=-1)))

    hidden, embeds = torch.randn(2, 1, 5, 20)
    x = norm("query_norm", state["query_embs"][0])
    x = attend("layers.0.self", x, x)
    x = attend("layers.0.cross", x, (hidden + embeds)[0])
    torch.testing.assert_close(projector(hidden, embeds)[0], linear("out_fc", x), rtol=1e-4, atol=1e-5)
