"""The kernels without a matrix product: equal to their reference for every shape class and type.

Interpreted on a CPU (tests/conftest.py sets TRITON_INTERPRET=1); with TRITON_INTERPRET=0 the same tests run on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_kernels import device, dispatch, ops, reference, stream
from custom_kernels.dispatch import KernelError
from custom_kernels.implementation import Case

DEVICE = "cpu" if device.interpreting() else "cuda"
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("kernels need TRITON_INTERPRET=1 or a GPU", allow_module_level=True)
TYPES = {"fp32": (torch.float32, 1e-6), "fp16": (torch.float16, 1e-3), "bf16": (torch.bfloat16, 1e-2)}


def normal(*shape: int, dtype: torch.dtype, seed: int = 0, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) + mean).to(dtype).to(DEVICE)


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def by_triton(operation: str, call: Callable[[str], Any]) -> Any:
    with dispatch.record() as ran:
        result = call("triton")
    assert ran == {(operation, "triton"): 1}
    return result


def wide(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.double() for tensor in tensors]


# N, C, the places, groups, what a channels-last picture is made of; small ones take one kernel, the others three.
SHAPES = {
    "one kernel": (2, 40, (3, 5), 4),
    "odd groups of ten": (2, 20, (41, 43), 2),
    "64 channels, short last chunk": (1, 64, (33, 65), 2),
    "128 channels": (1, 128, (17, 31), 1),
    "film": (2, 32, (3, 12, 16), 4),
    "one place": (3, 16, (1,), 8),
    "no places": (2, 16, (), 4),
}


@pytest.mark.law("P12")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_group_norm(shape: str, kind: str) -> None:
    items, channels, places, groups = SHAPES[shape]
    dtype, most = TYPES[kind]
    # A mean that is large against the spread: sums of squares would cancel.
    x = normal(items, *places, channels, dtype=dtype, mean=8.0).movedim(-1, 1)
    weight, bias = (normal(channels, dtype=dtype, seed=s) for s in (1, 2))
    lines = [normal(items, channels, dtype=dtype, seed=s) for s in (3, 4, 5)]
    for chosen in ((lines[0], None, None), (None, lines[1], lines[2])) if len(places) < 2 else (lines,):
        add, scale, shift = chosen
        truth = reference.group_norm_silu(x.double(), groups, *wide(weight, bias), 1e-5, *wide(add, scale, shift))
        found = by_triton(
            "group_norm_silu",
            lambda kernels, lines=chosen: ops.group_norm_silu(x, groups, weight, bias, 1e-5, *lines, kernels=kernels),
        )
        assert found.shape == x.shape and found.stride() == x.stride() and found.dtype == dtype
        assert relative(found, truth) < most


@pytest.mark.law("P12")
def test_group_norm_of_other_layouts_without_parameters_and_with_lines_that_serve_several_items() -> None:
    x = normal(6, 16, 4, 5, dtype=torch.float32)
    lines = normal(2, 16, dtype=torch.float32)
    layouts = (x, x.to(memory_format=torch.channels_last), x[:, :, ::2], x[:1].expand(6, -1, -1, -1))
    for one in layouts:
        for add, silu in ((None, False), (lines, True), (lines[:1], True)):
            truth = reference.group_norm_silu(one.double(), 4, None, None, 1e-5, *wide(add), silu=silu)
            found = ops.group_norm_silu(one, 4, add=add, silu=silu, kernels="triton")
            assert relative(found, truth) < 1e-6


@pytest.mark.law("P12")
@pytest.mark.parametrize("served", [1, 2])
def test_lines_that_serve_several_large_items(served: int) -> None:
    """The frames of a film share their time embedding; here in the three kernels, where another one reads the lines."""
    x = normal(4, 33 * 65, 64, dtype=torch.float32, mean=8.0).movedim(-1, 1)
    weight, bias = (normal(64, dtype=torch.float32, seed=s) for s in (1, 2))
    lines = [normal(served, 64, dtype=torch.float32, seed=s) for s in (3, 4, 5)]
    found = ops.group_norm_silu(x, 2, weight, bias, 1e-5, *lines, kernels="triton")
    assert relative(found, reference.group_norm_silu(x.double(), 2, *wide(weight, bias), 1e-5, *wide(*lines))) < 1e-6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the interpreter
def test_infinity_and_nan_stay_in_their_group() -> None:
    for poison in (torch.nan, torch.inf):
        x = normal(2, 16, 9, dtype=torch.float32)
        x[0, 3, 4] = poison
        found = ops.group_norm_silu(x, 4, kernels="triton")
        assert not found[0, :4].isfinite().any()
        assert found[0, 4:].isfinite().all() and found[1].isfinite().all()
        flat = normal(3, 8, dtype=torch.float32)
        flat[1, 2] = poison
        assert not stream.add_bias(flat, flat, kernels="triton")[1, 2].isfinite()
        assert not stream.add_layer_norm(flat, flat, kernels="triton")[1][1].isfinite().any()
        assert not ops.geglu(flat, kernels="triton")[1, 2].isfinite()


@pytest.mark.law("P12")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(3, 5, 80), (1, 1300), (700, 6), (2, 2)], ids=str)
def test_geglu(shape: tuple[int, ...], kind: str) -> None:
    dtype, most = TYPES[kind]
    x = normal(*shape, dtype=dtype) * 3
    found = by_triton("geglu", lambda kernels: ops.geglu(x, kernels))
    assert relative(found, reference.geglu(x.double())) < most
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    assert torch.equal(ops.geglu(turned, "triton"), found)


@pytest.mark.law("P12")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(3, 7, 40), (300, 8), (1, 1300)], ids=str)
def test_sums_of_the_stream(shape: tuple[int, ...], kind: str) -> None:
    dtype, most = TYPES[kind]
    x, residual = (normal(*shape, dtype=dtype, seed=s) for s in (0, 1))
    weight, bias = (normal(shape[-1], dtype=dtype, seed=s) for s in (2, 3))
    for given in (bias, None):
        found = by_triton("add_bias", lambda kernels, given=given: stream.add_bias(x, residual, given, kernels))
        assert relative(found, reference.add_bias(*wide(x, residual, given))) < most  # type: ignore[arg-type]
    for pair in ((weight, bias), (None, None)):
        total, normed = by_triton(
            "add_layer_norm",
            lambda kernels, pair=pair: stream.add_layer_norm(x, residual, *pair, 1e-5, kernels=kernels),
        )
        # What is normed is the rounded sum.
        truth = reference.layer_norm(total.double(), *wide(*pair), 1e-5)
        assert relative(total, x.double() + residual.double()) < most
        assert relative(normed, truth) < most
    narrow = stream.add_bias(x[..., ::2], residual[..., ::2], kernels="triton")
    assert relative(narrow, x[..., ::2].double() + residual[..., ::2].double()) < most


@pytest.mark.law("P12")
@pytest.mark.parametrize("view", ["every other", "one for all"])
def test_parameters_that_are_views(view: str) -> None:
    """A kernel reads from element to neighbour; those of a view lie elsewhere, or are not even the tensor's."""

    def parameter(seed: int) -> Tensor:
        whole = normal(32, dtype=torch.float32, seed=seed)
        return whole[::2] if view == "every other" else whole[:1].expand(16)

    weight, bias = parameter(1), parameter(2)
    for places in (6, 33 * 65):  # one kernel, three kernels
        x = normal(2, places, 16, dtype=torch.float32).movedim(-1, 1)
        found = ops.group_norm_silu(x, 4, weight, bias, kernels="triton")
        assert relative(found, reference.group_norm_silu(x.double(), 4, *wide(weight, bias))) < 1e-6
    x, residual = (normal(3, 16, dtype=torch.float32, seed=s) for s in (3, 4))
    found = stream.add_bias(x, residual, bias, "triton")
    assert relative(found, reference.add_bias(*wide(x, residual, bias))) < 1e-6  # type: ignore[arg-type]
    _, normed = stream.add_layer_norm(x, residual, weight, bias, kernels="triton")
    total = x.double() + residual.double()
    assert relative(normed, reference.layer_norm(total, *wide(weight, bias))) < 1e-6


@pytest.mark.law("P12")
def test_gradients_through_triton_are_those_of_the_reference() -> None:
    x = normal(2, 16, 6, dtype=torch.float32).requires_grad_()
    line = normal(2, 16, dtype=torch.float32, seed=1).requires_grad_()
    for run in (
        lambda k: ops.group_norm_silu(x, 4, add=line, kernels=k),
        lambda k: ops.geglu(x, k) * line[..., None],
        lambda k: stream.add_bias(x.transpose(1, 2), x.transpose(1, 2), line[0], k),
        lambda k: stream.add_bias(x[0, :, 0], x[1, :, 0], line[0], k) + line[1],  # one row, and nothing but it
        lambda k: torch.stack(stream.add_layer_norm(x.transpose(1, 2), x.transpose(1, 2) * 2, line[0], kernels=k)),
    ):
        found, truth = (torch.autograd.grad(run(k).square().sum(), [x, line]) for k in ("triton", "reference"))
        for one, other in zip(found, truth, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_empty_tensors_give_empty_results() -> None:
    x = normal(2, 16, 6, dtype=torch.float32)
    for one in (x[:0], x[..., :0, :]):
        assert stream.add_bias(one, one, x[0, 0], "triton").shape == one.shape
        assert [y.shape for y in stream.add_layer_norm(one, one, kernels="triton")] == [one.shape] * 2
        assert ops.geglu(one, "triton").shape == (*one.shape[:-1], 3)
    assert ops.group_norm_silu(x[:0], 4, kernels="triton").shape == (0, 16, 6)
    assert ops.group_norm_silu(x[..., :0], 4, kernels="triton").shape == (2, 16, 0)


def a_case(operation: str, dtype: str = "bfloat16", arch: int = 90, **sizes: int) -> Case:
    return Case(operation, "cuda", arch, "", dtype, tuple(sizes.items()))


def test_cases_without_a_kernel_are_told_or_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="rows of up to 8192, these are 8193"):
        dispatch.choose(a_case("add_layer_norm", rows=2, C=8193, elements=2 * 8193), "triton")
    with pytest.raises(KernelError, match="groups of up to 256 channels, these are 512"):
        dispatch.choose(a_case("group_norm_silu", N=1, C=1024, S=4, G=2, elements=4096), "triton")
    with pytest.raises(KernelError, match="float16, bfloat16 and float32, not float64"):
        ops.geglu(normal(2, 8, dtype=torch.float64), "triton")
    assert dispatch.choose(a_case("add_layer_norm", rows=2, C=8193, elements=2 * 8193)).name == "torch"
    assert dispatch.choose(a_case("geglu", rows=2, C=8, contiguous=1, elements=16)).name == "triton"
    # More elements than 32 bits count are no matter: offsets have 64.
    assert dispatch.choose(a_case("geglu", rows=2**20, C=4096, contiguous=1, elements=2**33)).name == "triton"
    monkeypatch.setattr(device, "interpreting", lambda: False)
    dispatch.forget()
    try:
        # An old card, no card, no Triton: torch computes.
        assert dispatch.choose(a_case("geglu", arch=75, rows=2, C=8, contiguous=1, elements=16)).name == "torch"
        here = normal(2, 8, dtype=torch.float32).cpu()
        assert ops.geglu(here).shape == (2, 4)
        with pytest.raises(KernelError, match="need a CUDA device"):
            ops.geglu(here, "triton")
        monkeypatch.setattr(device, "why_no_triton", lambda: "triton cannot be imported; install anyloom[gpu]")
        dispatch.forget()
        assert dispatch.choose(a_case("geglu", rows=2, C=8, contiguous=1, elements=16)).name == "torch"
        with pytest.raises(KernelError, match=r"install anyloom\[gpu\]"):
            dispatch.choose(a_case("geglu", rows=2, C=8, contiguous=1, elements=16), "triton")
    finally:
        monkeypatch.undo()
        dispatch.forget()
