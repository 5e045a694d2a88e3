"""Low-rank adapters: folded as the formula says, refused when they are another model's."""

from __future__ import annotations

import pytest
import torch

from nodes.nextgpt.model.fold_lora import fold_lora, lora_rank, split_lora

torch.set_num_threads(1)


def state(rank: int = 4, name: str = "default.", dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "q.weight": torch.randn(6, 10, generator=generator).to(dtype),
        "norm.weight": torch.ones(10, dtype=dtype),
        f"q.lora_A.{name}weight": torch.randn(rank, 10, generator=generator).to(dtype),
        f"q.lora_B.{name}weight": torch.randn(6, rank, generator=generator).to(dtype),
    }


@pytest.mark.parametrize("name", ["", "default."])
def test_folding_is_what_the_adapted_layer_computes(name: str) -> None:
    given = state(name=name)
    a, b = given[f"q.lora_A.{name}weight"], given[f"q.lora_B.{name}weight"]
    folded = fold_lora(given, 4, 8.0)
    assert set(folded) == {"q.weight", "norm.weight"}
    x = torch.randn(3, 10)
    expected = x @ given["q.weight"].T + 2.0 * ((x @ a.T) @ b.T)
    torch.testing.assert_close(x @ folded["q.weight"].T, expected, rtol=1e-5, atol=1e-5)
    assert folded["norm.weight"] is given["norm.weight"]


def test_half_weights_are_folded_in_float32_and_rounded_once() -> None:
    given = state(dtype=torch.float16)
    exact = (
        given["q.weight"].float() + given["q.lora_B.default.weight"].float() @ given["q.lora_A.default.weight"].float()
    )
    assert torch.equal(fold_lora(given, 4, 4.0)["q.weight"], exact.half())
    assert torch.equal(fold_lora(given, 4, 4.0, torch.float32)["q.weight"], exact)


def test_peft_folds_to_the_same() -> None:
    """The reference: peft's own merge."""
    peft = pytest.importorskip("peft")
    model = torch.nn.Sequential()
    model.add_module("q", torch.nn.Linear(10, 6, bias=False))
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    entries = {
        key.removeprefix("base_model.model.").replace(".base_layer", ""): value.clone()
        for key, value in adapted.state_dict().items()
    }
    merged = adapted.merge_and_unload().state_dict()["q.weight"]
    torch.testing.assert_close(fold_lora(entries, 4, 16)["q.weight"], merged, rtol=1e-6, atol=1e-6)


def test_splitting_loses_nothing() -> None:
    given = state()
    base, lora = split_lora(given)
    assert set(base) == {"q.weight", "norm.weight"}
    assert {**base, **lora}.keys() == given.keys()
    assert lora_rank(given) == 4 and lora_rank(base) == 0
    assert fold_lora(base, 4, 4) == base


def test_meta_tensors_fold_to_shapes() -> None:
    folded = fold_lora({key: value.to("meta") for key, value in state().items()}, 4, 4, torch.float16)
    assert folded["q.weight"].is_meta and folded["q.weight"].shape == (6, 10)
    assert folded["q.weight"].dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q.lora_A.default.weight": None}, "only one half"),
        ({"q.weight": None}, "adapts q, which the base does not have"),
        ({"q.weight": torch.zeros(6, 11)}, r"\(6, 4\) x \(4, 10\), its weight \(6, 11\)"),
        ({"q.lora_A.default.weight": torch.zeros(5, 10)}, r"several ranks, \[4, 5\]"),
        ({"q.lora_A.other.weight": torch.zeros(4, 10)}, "several LoRA adapters"),
    ],
)
def test_what_does_not_belong_together(change: dict[str, torch.Tensor | None], said: str) -> None:
    given = {key: value for key, value in {**state(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=said):
        fold_lora(given, 4, 4)


def test_another_rank() -> None:
    with pytest.raises(ValueError, match="rank 4, this model's of rank 32"):
        fold_lora(state(), 32, 32)
