"""The operations: equal to their reference whoever computes them, whole under torch.compile, differentiable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_kernels import dispatch, ops, reference, stream, tuned
from custom_kernels.implementation import Case

D = torch.float64


def normal(*shape: int, dtype: torch.dtype = D, seed: int = 0, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed + math.prod(shape))
    return torch.randn(shape, generator=generator, dtype=D).to(dtype).requires_grad_(grad)


def qkv(dtype: torch.dtype = D, grad: bool = False) -> list[Tensor]:
    return [
        normal(4, 6, 80, dtype=dtype, seed=1, grad=grad),
        *(normal(2, 5, 80, dtype=dtype, seed=s, grad=grad) for s in (2, 3)),
    ]


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor, scale: float) -> Tensor:
    """Loops and a dictionary's worth of arithmetic, so that the reference has somebody to agree with."""
    out = torch.zeros_like(q)
    width = q.shape[2] // heads
    for b in range(q.shape[0]):
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            for i in range(q.shape[1]):
                row = b * k.shape[0] // q.shape[0]
                scores = [
                    float(q[b, i, part] @ k[row, j, part]) * scale + float(mask[b, h, i, j]) for j in range(k.shape[1])
                ]
                weights = [math.exp(s - max(scores)) for s in scores]
                for j, weight in enumerate(weights):
                    out[b, i, part] += weight / sum(weights) * v[row, j, part]
    return out


@pytest.mark.law("P12")
def test_the_reference_is_attention() -> None:
    q, k, v = qkv()
    mask = normal(4, 2, 6, 5)
    expected = attention_by_hand(q, k, v, 2, mask, 0.3)
    torch.testing.assert_close(reference.attention(q, k, v, 2, mask, 0.3), expected)
    film = [normal(2, 3, 4, 16, seed=s) for s in range(3)]
    place = [x[:, :, 1] for x in film]
    torch.testing.assert_close(reference.frame_attention(*film, 2)[:, :, 1], reference.attention(*place, 2))


def test_a_query_that_may_see_nothing_gets_zeros() -> None:
    q, k, v = qkv()
    mask = torch.zeros(1, 1, 6, 5, dtype=D)
    mask[:, :, 2] = float("-inf")
    for kernels in ("auto", "reference", "sdpa.math"):
        mixed = ops.attention(q, k, v, 2, mask, kernels=kernels)
        assert (mixed[:, 2] == 0).all() and mixed.isfinite().all()


Call = Callable[[str], Tensor]
X = normal(2, 64, 4, 6)
CALLS: dict[str, tuple[Call, Call]] = {
    "attention": (
        lambda kernels: ops.attention(*qkv(), 2, normal(4, 1, 6, 5), 0.3, kernels),
        lambda _: reference.attention(*qkv(), 2, normal(4, 1, 6, 5), 0.3),
    ),
    "frame_attention": (
        lambda kernels: ops.frame_attention(*(normal(2, 3, 4, 16, seed=s) for s in range(3)), 2, kernels=kernels),
        lambda _: reference.frame_attention(*(normal(2, 3, 4, 16, seed=s) for s in range(3)), 2),
    ),
    "group_norm_silu": (
        lambda kernels: ops.group_norm_silu(
            X,
            8,
            normal(64),
            normal(64, seed=1),
            1e-5,
            normal(2, 64),
            normal(2, 64, seed=1),
            normal(2, 64, seed=2),
            True,
            kernels,
        ),
        lambda _: reference.group_norm_silu(
            X, 8, normal(64), normal(64, seed=1), 1e-5, normal(2, 64), normal(2, 64, seed=1), normal(2, 64, seed=2)
        ),
    ),
    "layer_norm": (
        lambda kernels: ops.layer_norm(normal(3, 5, 16), normal(16), normal(16, seed=1), kernels=kernels),
        lambda _: reference.layer_norm(normal(3, 5, 16), normal(16), normal(16, seed=1)),
    ),
    "geglu": (lambda kernels: ops.geglu(normal(3, 5, 16), kernels), lambda _: reference.geglu(normal(3, 5, 16))),
    "add_scaled": (
        lambda kernels: ops.add_scaled(X, normal(2, 64, 4, 6, seed=1), 0.5, kernels),
        lambda _: reference.add_scaled(X, normal(2, 64, 4, 6, seed=1), 0.5),
    ),
    "add_bias": (
        lambda kernels: stream.add_bias(X, normal(2, 64, 4, 6, seed=1), normal(6), kernels),
        lambda _: reference.add_bias(X, normal(2, 64, 4, 6, seed=1), normal(6)),
    ),
    "add_layer_norm": (
        lambda kernels: torch.stack(stream.add_layer_norm(X, -2 * X, normal(6), normal(6, seed=1), kernels=kernels)),
        lambda _: torch.stack(reference.add_layer_norm(X, -2 * X, normal(6), normal(6, seed=1))),
    ),
}


@pytest.mark.law("P12")
@pytest.mark.parametrize(
    ("operation", "row"),
    [
        (operation, row.name)
        for operation, rows in dispatch.TABLE.items()
        for row in rows
        if row.family in ("sdpa", "torch", "reference")
    ],
)
def test_rows_of_plain_torch_equal_the_reference(operation: str, row: str) -> None:
    call, truth = CALLS[operation]
    if row in ("sdpa.cudnn", "sdpa.efficient"):
        with pytest.raises(dispatch.KernelError, match="on CUDA devices only"):
            call(row)
        return
    with dispatch.record() as ran:
        result = call(row)
    assert ran == {(operation, row): 1}
    torch.testing.assert_close(result, truth(row), rtol=1e-9, atol=1e-9)


def test_a_channels_last_picture_stays_so() -> None:
    x = normal(2, 32, 4, 6, dtype=torch.float32).to(memory_format=torch.channels_last)
    for kernels in ("auto", "torch", "reference"):
        y = ops.group_norm_silu(x, 8, kernels=kernels)
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, torch.nn.functional.silu(torch.nn.functional.group_norm(x.contiguous(), 8)))


def test_what_ran_is_told_also_by_nested_recordings() -> None:
    q, k, v = qkv(torch.float32)
    with dispatch.record() as outer:
        ops.attention(q, k, v, 2)
        with dispatch.record() as inner:
            ops.attention(q, k, v, 2, kernels="reference")
            ops.geglu(q)
    assert inner == {("attention", "reference"): 1, ("geglu", "torch"): 1}
    assert dispatch.summary(outer) == "attention: reference 1, sdpa 1; geglu: torch 1"
    with torch.enable_grad(), dispatch.record() as trained:
        ops.attention(q.requires_grad_(), k, v, 2)
    assert trained == {("attention", "sdpa"): 1}


def test_on_a_cpu_results_are_those_of_torch_to_the_bit() -> None:
    q, k, v = (normal(2, 33, 80, dtype=torch.float32, seed=s) for s in range(3))
    heads = [x.view(2, -1, 2, 40).transpose(1, 2) for x in (q, k, v)]
    plain = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(2, -1, 80)
    assert torch.equal(ops.attention(q, k, v, 2), plain)


# Gradients and torch.compile


def differentiable() -> dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]]:
    """Per operation: through the registered op, through the reference, and the tensors that get gradients."""
    op: Any = torch.ops.anyloom
    time = [normal(2, 64, seed=s, grad=True) for s in range(3)]
    norm = [normal(2, 64, 3, 2, grad=True), normal(64, grad=True), normal(64, seed=1, grad=True), *time]
    film = [normal(2, 3, 4, 16, seed=s, grad=True) for s in range(3)]
    layer = [normal(3, 5, 16, grad=True), normal(16, grad=True), normal(16, seed=1, grad=True)]
    pair = [normal(2, 6, seed=s, grad=True) for s in range(2)]
    ref = reference
    return {
        "attention": (
            lambda q, k, v, m: op.attention(q, k, v, 2, m, 0.3, "reference"),
            lambda q, k, v, m: ref.attention(q, k, v, 2, m, 0.3),
            [*qkv(grad=True), normal(4, 1, 6, 5, grad=True)],
        ),
        "frame_attention": (
            lambda *x: op.frame_attention(*x, 2, None, "reference"),
            lambda *x: ref.frame_attention(*x, 2),
            film,
        ),
        "group_norm_silu": (
            lambda x, w, b, *t: op.group_norm_silu(x, 8, w, b, 1e-5, *t, True, "reference"),
            lambda x, w, b, *t: ref.group_norm_silu(x, 8, w, b, 1e-5, *t),
            norm,
        ),
        "layer_norm": (
            lambda x, w, b: op.layer_norm(x, w, b, 1e-5, "reference"),
            lambda x, w, b: ref.layer_norm(x, w, b),
            layer,
        ),
        "geglu": (lambda x: op.geglu(x, "reference"), ref.geglu, [normal(3, 8, grad=True)]),
        "add_scaled": (
            lambda x, r: op.add_scaled(x, r, 0.5, "reference"),
            lambda x, r: ref.add_scaled(x, r, 0.5),
            pair,
        ),
        "add_bias": (
            lambda x, r, b: op.add_bias(x, r, b, "reference"),
            ref.add_bias,
            [*pair, normal(6, seed=2, grad=True)],
        ),
        "add_layer_norm": (
            lambda x, r, w, b: torch.stack(op.add_layer_norm(x, r, w, b, 1e-5, "reference")),
            lambda x, r, w, b: torch.stack(ref.add_layer_norm(x, r, w, b)),
            [*pair, normal(6, seed=2, grad=True), normal(6, seed=3, grad=True)],
        ),
    }


@pytest.mark.law("P12")
@pytest.mark.parametrize("operation", dispatch.TABLE)
def test_gradients_are_those_of_the_reference(operation: str) -> None:
    through_op, through_reference, tensors = differentiable()[operation]
    found, expected = (
        torch.autograd.grad(run(*tensors).square().sum(), tensors) for run in (through_op, through_reference)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    # Only what is asked for is computed: the first tensor alone.
    frozen = [tensors[0], *(x.detach() for x in tensors[1:])]
    [alone] = torch.autograd.grad(through_op(*frozen).square().sum(), frozen[:1])
    torch.testing.assert_close(alone, expected[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("operation", dispatch.TABLE)
def test_torch_accepts_the_registration(operation: str) -> None:
    """Schema, fake implementation and gradients are consistent (torch's own checks)."""
    op: Any = torch.ops.anyloom
    arguments = {
        "attention": (*qkv(), 2, None, None, "auto"),
        "frame_attention": (*(normal(2, 3, 4, 16, seed=s) for s in range(3)), 2, None, "auto"),
        "group_norm_silu": (X, 8, None, None, 1e-5, None, None, None, True, "auto"),
        "layer_norm": (normal(3, 5, 16), None, None, 1e-5, "auto"),
        "geglu": (normal(3, 8), "auto"),
        "add_scaled": (X, X, 0.5, "auto"),
        "add_bias": (X, -X, normal(6), "auto"),
        "add_layer_norm": (X, -X, None, None, 1e-5, "auto"),
    }[operation]
    torch.library.opcheck(getattr(op, operation), arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_graphs_stay_whole_forwards_and_backwards(backend: str) -> None:
    q, k, v = (normal(2, 6, 128, dtype=torch.float32, seed=s, grad=True) for s in range(3))

    def block(q: Tensor, k: Tensor, v: Tensor, kernels: str) -> Tensor:
        x = ops.attention(q, k, v, 2, kernels=kernels)
        x = ops.add_scaled(x, q, 1.0, kernels="reference")
        x = ops.layer_norm(x)
        x = ops.group_norm_silu(x.transpose(1, 2), 8)
        return ops.geglu(x.transpose(1, 2))

    for kernels in ("auto", "reference"):
        torch._dynamo.reset()
        compiled = torch.compile(block, fullgraph=True, backend=backend)
        result, plain = compiled(q, k, v, kernels), block(q, k, v, kernels)
        torch.testing.assert_close(result, plain)
        for one, other in zip(
            torch.autograd.grad(result.square().sum(), [q, k, v]),
            torch.autograd.grad(plain.square().sum(), [q, k, v]),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
        with torch.no_grad():
            torch.testing.assert_close(compiled(q, k, v, kernels), plain)
    torch._dynamo.reset()


# Bad input


def bad_calls() -> dict[str, tuple[Callable[[], Tensor], str]]:
    q = normal(4, 6, 80, dtype=torch.float32)
    k = normal(2, 5, 80, dtype=torch.float32)
    film = normal(2, 3, 4, 16, dtype=torch.float32)
    x = normal(2, 64, 4, dtype=torch.float32)
    return {
        "heads that do not divide": (lambda: ops.attention(q, k, k, 3), "multiple of the heads"),
        "no heads": (lambda: ops.attention(q, k, k, 0), "multiple of the heads"),
        "other width": (lambda: ops.attention(q, k[..., :40], k[..., :40], 2), 'q "B Lq H·D"'),
        "k unlike v": (lambda: ops.attention(q, k, k[:, :4], 2), 'k, v "Bk Lk H·D"'),
        "batch": (lambda: ops.attention(q, torch.cat([k, k[:1]]), torch.cat([k, k[:1]]), 2), "must divide the batch"),
        "no keys": (lambda: ops.attention(q, k[:, :0], k[:, :0], 2), "no keys"),
        "types": (lambda: ops.attention(q, k.half(), k, 2), "one type; got q float32"),
        "integers": (lambda: ops.attention(q.int(), k.int(), k.int(), 2), "takes float16, bfloat16"),
        "bool mask": (lambda: ops.attention(q, k, k, 2, torch.ones(1, 1, 6, 5, dtype=torch.bool)), "takes float16"),
        "mask of three dimensions": (lambda: ops.attention(q, k, k, 2, torch.zeros(4, 6, 5)), "four dimensions"),
        "mask too long": (lambda: ops.attention(q, k, k, 2, torch.zeros(1, 1, 6, 6)), "must broadcast"),
        "negative scale": (lambda: ops.attention(q, k, k, 2, scale=-1.0), "scale must be positive"),
        "scale not a number": (lambda: ops.attention(q, k, k, 2, scale=math.nan), "scale must be positive"),
        "device": (lambda: ops.attention(q, k.to("meta"), k, 2), "on one device"),
        "film": (lambda: ops.frame_attention(film, film, film[:, :2], 2), 'of one shape "B F S H·D"'),
        "groups": (lambda: ops.group_norm_silu(x, 7), "multiple of 7 groups"),
        "weight": (lambda: ops.group_norm_silu(x, 8, x[0, :, 0][:32]), "weight must be (64,)"),
        "time": (lambda: ops.group_norm_silu(x, 8, scale=normal(3, 64)), "a divisor of 2"),
        "bias": (lambda: stream.add_bias(x, x, x[0, :, 0]), 'a bias "C"'),
        "sum": (lambda: stream.add_layer_norm(x, x[:1])[0], "two equal shapes"),
        "odd width": (lambda: ops.geglu(x[..., :3]), 'takes "* 2C"'),
        "residual": (lambda: ops.add_scaled(x, x[:1]), "two equal shapes"),
        "layer weight": (lambda: ops.layer_norm(x, x[0, 0, :2]), "weight must be (4,)"),
        "unknown kernels": (lambda: ops.attention(q, k, k, 2, kernels="fastest"), "there are auto"),
        "cuDNN on a CPU": (lambda: ops.attention(q, k, k, 2, kernels="sdpa.cudnn"), "on CUDA devices only"),
        "xformers": (lambda: ops.attention(q, k, k, 2, kernels="xformers"), "Choose kernels='auto'"),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_bad_input_is_told(name: str) -> None:
    call, says = bad_calls()[name]
    with pytest.raises(ValueError) as told:
        call()
    assert says in str(told.value)


def test_bad_shapes_are_told_while_compiling() -> None:
    q = normal(4, 6, 80, dtype=torch.float32)
    with pytest.raises(ValueError, match="no keys"):
        torch.ops.anyloom.attention(q.to("meta"), q[:, :0].to("meta"), q[:, :0].to("meta"), 2, None, None, "auto")


def test_empty_tensors_give_empty_results() -> None:
    q = normal(4, 6, 80, dtype=torch.float32)
    assert ops.attention(q[:, :0], q, q, 2).shape == (4, 0, 80)
    assert ops.attention(q[:0], q[:0], q[:0], 2).shape == (0, 6, 80)
    assert ops.geglu(q[:, :0]).shape == (4, 0, 40)
    assert ops.group_norm_silu(q.reshape(4, 80, 6)[:0], 8).shape == (0, 80, 6)
    assert ops.layer_norm(q[:0]).shape == (0, 6, 80)
    assert ops.add_scaled(q[:0], q[:0]).shape == (0, 6, 80)


def test_strides_do_not_matter() -> None:
    wide = normal(4, 6, 3 * 80, dtype=torch.float32)
    q, k, v = wide.chunk(3, dim=2)  # as a packed projection gives them
    expected = reference.attention(q, k, v, 2)
    torch.testing.assert_close(ops.attention(q, k, v, 2), expected)
    assert ops.attention(q, k, v, 2).is_contiguous()
    one = normal(1, 6, 80, dtype=torch.float32).expand(4, 6, 80)
    torch.testing.assert_close(ops.attention(one, one, one, 2), reference.attention(one, one, one, 2))
    turned = normal(4, 80, 6, dtype=torch.float32).transpose(1, 2)
    torch.testing.assert_close(ops.attention(turned, turned, turned, 2), reference.attention(*[turned] * 3, 2))
    torch.testing.assert_close(ops.geglu(turned), reference.geglu(turned))
    torch.testing.assert_close(ops.add_scaled(turned, q), reference.add_scaled(turned, q))
    torch.testing.assert_close(
        ops.group_norm_silu(one.transpose(1, 2), 8), reference.group_norm_silu(one.transpose(1, 2), 8, None, None)
    )


# The tuned tables


def a_case(**sizes: int) -> Case:
    named = {"B": 2, "H": 8, "Lq": 4096, "Lk": 4096, "D": 40, "mask": 0, "elements": 1, **sizes}
    return Case("attention", "cuda", 90, "nvidia_h200", "bfloat16", tuple(named.items()))


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ANYLOOM_TUNED", str(tmp_path))
    dispatch.forget()
    yield tmp_path
    dispatch.forget()


def test_a_tuned_table_decides_and_the_rest_keeps_its_defaults(tables: Path) -> None:
    rules = [
        tuned.Rule("attention", ("sdpa.cudnn",), {"D": 40, "Lq": [1024, None]}),
        tuned.Rule("attention", ("reference",), {"D": 40, "dtype": "float32"}),
    ]
    tuned.write(tables / "nvidia_h200.json", {"device": "test"}, rules, {"self/40/bfloat16": {"block_m": 64}})
    dispatch.forget()
    assert dispatch.choose(a_case()).name == "sdpa.cudnn"
    assert dispatch.choose(a_case(Lq=64)).name != "sdpa.cudnn"
    assert dispatch.choose(a_case(Lq=64)._replace(dtype="float32")).name == "reference"
    assert dispatch.choose(a_case(D=128, Lk=256)).name == "sdpa"
    # Another card of the same architecture has no table of this name.
    assert dispatch.choose(a_case(D=64)._replace(device_name="other")).name == "sdpa"
    (tables / "sm_90.json").write_text((tables / "nvidia_h200.json").read_text())
    dispatch.forget()
    assert dispatch.choose(a_case()._replace(device_name="other")).name == "sdpa.cudnn"


def test_a_table_that_names_what_cannot_run_is_passed_over(tables: Path) -> None:
    tuned.write(tables / "cpu.json", {}, [tuned.Rule("attention", ("sdpa.cudnn", "reference"))], {})
    dispatch.forget()
    with dispatch.record() as ran:
        ops.attention(*qkv(), 2)
    assert ran == {("attention", "reference"): 1}


def test_a_broken_table_is_told(tables: Path) -> None:
    for text in ("{", "[]", json.dumps({"choices": [{"use": ["triton"]}]}), json.dumps({"launches": {"a": 1}})):
        (tables / "cpu.json").write_text(text)
        dispatch.forget()
        with pytest.raises(ValueError, match=r"tuned table .*cpu\.json cannot be read"):
            ops.attention(*qkv(), 2)
