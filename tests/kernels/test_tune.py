"""The tuner: measures what is in use, keeps the default within noise, goes on where it stopped, and its table decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from custom_kernels import attention_plan as plan
from custom_kernels import attention_triton, dispatch, ops, production, tune, tuned
from custom_kernels.implementation import Case
from custom_kernels.production import AttentionCall

SMS = 132
DTYPES = [torch.bfloat16]


class Card:
    """A card whose times are known, which counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def measure(self, call: AttentionCall, dtype: torch.dtype, kernels: str, launch: plan.Launch | None) -> float:
        self.asked += 1
        if kernels == "sdpa.cudnn" and call.head_dim > 128:
            return float("inf")
        if kernels != "triton":
            return {"sdpa.flash": 2.0, "sdpa.cudnn": 1.5, "sdpa.efficient": 3.0}[kernels]
        assert launch is not None
        slower = 1.0 if call.head_dim == 40 else 5.0
        best = launch == plan.Launch(128, 64, 4, 2)
        barely = launch == plan.Launch(64, 16, 4, 2)
        return slower * (0.5 if best else 0.99 if barely else 1.0)


def filled(card: Card, path: Path, steps: int | None = None) -> tune.Found:
    found = tune.go_on_from(path)
    for count, _ in enumerate(tune.tune(found, production.ATTENTION, DTYPES, 90, SMS, card.measure), start=1):
        tuned.write(path, {"device": "a card"}, list(found.choices.values()), found.launches)
        if count == steps:
            break
    return found


def test_the_fastest_is_written_and_noise_changes_nothing(tmp_path: Path) -> None:
    found = filled(Card(), tmp_path / "card.json")
    assert found.launches["long/40/bfloat16"] == plan.Launch(128, 64, 4, 2)._asdict()
    assert found.launches["short/40/bfloat16"] == plan.default_launch("short", 40, "bfloat16", 90)._asdict()
    table = tuned.read(tmp_path / "card.json")

    def use(lq: int, lk: int, head_dim: int, mask: int = 0) -> tuple[str, ...]:
        sizes = {"B": 2, "H": 8, "Lq": lq, "Lk": lk, "D": head_dim, "mask": mask, "elements": 1}
        return table.preferred(Case("attention", "cuda", 90, "card", "bfloat16", tuple(sizes.items())))

    assert use(4096, 4096, 40) == ("triton", "sdpa.cudnn", "sdpa.flash", "sdpa.efficient")
    assert use(5000, 5000, 40)[0] == "triton"
    assert use(2880, 2880, 64)[0] == "sdpa.cudnn"
    assert use(256, 256, 160) == ("sdpa.flash", "triton", "sdpa.efficient")
    assert use(4096, 4096, 40, mask=1) == use(4096, 4096, 128) == ()


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    whole = Card()
    expected = filled(whole, tmp_path / "whole.json")
    first, second = Card(), Card()
    filled(first, tmp_path / "card.json", steps=7)
    launches = len(expected.launches)
    filled(second, tmp_path / "card.json", steps=launches)
    third = Card()
    assert filled(third, tmp_path / "card.json") == expected
    assert first.asked + second.asked + third.asked == whole.asked
    nothing_left = Card()
    filled(nothing_left, tmp_path / "card.json")
    assert nothing_left.asked == 0


def test_each_launch_in_use_is_tuned_by_the_call_that_costs_most() -> None:
    heaviest = tune.calls_by_launch(production.ATTENTION, SMS)
    assert heaviest["long", 40].lq == 4096 and heaviest["long", 64].batch == 48
    assert heaviest["few", 160].lq == 256 and heaviest["packed", 64].batch == 5760
    assert heaviest["short", 64].repeat == production.FRAMES


def test_candidates_are_launches_that_kernels_can_have() -> None:
    for arch in (80, 90):
        for which in ("long", "few", "short", "packed"):
            for head_dim in plan.HEAD_DIMS:
                found = plan.candidates(which, head_dim, arch)
                assert found[0] == plan.default_launch(which, head_dim, "bfloat16", arch)
                assert len(found) == len(set(found)) <= 28
                assert all(plan.checked(launch._asdict(), "") == launch for launch in found)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ANYLOOM_TUNED", str(tmp_path))
    yield tmp_path
    dispatch.forget()


def test_kernels_are_launched_as_the_table_says(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from custom_kernels import attention_kernels

    blocks: list[int] = []
    kernel = attention_kernels.long_attention

    class Spy:
        def __getitem__(self, grid: tuple[int, ...]) -> object:
            def launch(*arguments: object, **constants: object) -> None:
                blocks.append(int(str(constants["BLOCK_M"])))
                kernel[grid](*arguments, **constants)

            return launch

    monkeypatch.setattr(attention_kernels, "long_attention", Spy())
    q = torch.randn(1, 130, 40)
    expected = ops.attention(q, q, q, 1, kernels="reference")
    tuned.write(tables / "cpu.json", {}, [], {"few/40/float32": {"block_m": 16}, "long/40/float32": {"block_m": 16}})
    dispatch.forget()
    torch.testing.assert_close(ops.attention(q, q, q, 1, kernels="triton"), expected)
    with attention_triton.launched(plan.Launch(64, 64, 4, 1)):
        torch.testing.assert_close(ops.attention(q, q, q, 1, kernels="triton"), expected)
    assert blocks == [16, 64]
    (tables / "cpu.json").write_text(
        '{"launches": {"few/40/float32": {"block_m": 7}, "long/40/float32": {"block_m": 7}}}'
    )
    dispatch.forget()
    with pytest.raises(ValueError, match="no kernel can have"):
        ops.attention(q, q, q, 1, kernels="triton")


def test_without_a_gpu_there_is_nothing_to_tune_but_the_table_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tune.main([]) == 2
    assert tune.main(["--show"]) == 0
    printed = capsys.readouterr()
    assert "needs a CUDA device" in printed.err and "from defaults" in printed.out
