"""The Triton attention kernels equal their reference: every head dim, type and class of shapes.

Interpreted on a CPU (tests/conftest.py sets TRITON_INTERPRET=1); with TRITON_INTERPRET=0 the same tests run on the GPU.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from custom_kernels import attention, attention_triton, device, dispatch, ops, production, reference
from custom_kernels import attention_plan as plan
from custom_kernels.implementation import Case

triton = pytest.importorskip("triton")
DEVICE = "cpu" if device.interpreting() else "cuda"
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("kernels need TRITON_INTERPRET=1 or a GPU", allow_module_level=True)

# |ours - exact| / |exact| with the exact result in float64; and the largest single error, as a share of the largest value.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5}
LARGEST = 5.0  # times the tolerance
TYPES = list(TOLERANCE)


@pytest.fixture(autouse=True)
def poisoned_results() -> Iterator[None]:
    """Fresh memory is NaN: an element that a kernel leaves out is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


class Shape(NamedTuple):
    lq: int
    lk: int
    head_dim: int
    heads: int = 2
    batch: int = 1
    repeat: int = 1
    masked: bool = False

    def __str__(self) -> str:
        return "x".join(map(str, self[:6])) + ("-masked" if self.masked else "")


SHAPES = [
    *(Shape(20, 192, head_dim, heads=1) for head_dim in plan.HEAD_DIMS),  # long: whole blocks of keys
    Shape(70, 150, 40),  # long: a tail of keys, two blocks of queries
    Shape(130, 130, 80, heads=1),
    Shape(1, 129, 64),
    Shape(10, 154, 160, batch=4, repeat=2),  # two prompts of 77, shared by the frames of a film
    Shape(20, 130, 72, masked=True),
    Shape(64, 77, 40, batch=2),  # short: keys in two parts
    Shape(33, 77, 80),
    Shape(33, 77, 160, masked=True),
    Shape(130, 77, 64, batch=6, repeat=3),  # several tiles of queries per program
    Shape(64, 64, 160),
    Shape(45, 45, 64),
    Shape(50, 1, 40),
    Shape(20, 128, 120, masked=True),
    Shape(24, 24, 64, batch=7),  # packed: two sequences per tile, and one left over
    Shape(16, 16, 40, batch=5),
    Shape(32, 32, 80, batch=3),
    Shape(1, 1, 48, batch=70),
    Shape(24, 24, 64, batch=4, repeat=2),  # shared keys cannot be packed
]


def normal(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(DEVICE)


def inputs(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    width = shape.heads * shape.head_dim
    q = normal(shape.batch, shape.lq, width, dtype=dtype, seed=1)
    k, v = (normal(shape.batch // shape.repeat, shape.lk, width, dtype=dtype, seed=seed) for seed in (2, 3))
    mask = normal(1, shape.heads, shape.lq, shape.lk, dtype=dtype, seed=4) if shape.masked else None
    return q, k, v, mask


def assert_equal(result: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert result.dtype == dtype and result.shape == exact.shape
    error = result.double() - exact
    assert (error.norm() / exact.norm()).item() <= TOLERANCE[dtype]
    assert (error.abs().max() / exact.abs().max()).item() <= LARGEST * TOLERANCE[dtype]


def assert_attention_equals(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, scale: float | None
) -> None:
    with dispatch.record() as ran:
        result = ops.attention(q, k, v, heads, mask, scale, kernels="triton")
    assert ran == {("attention", "triton"): 1}
    wide = None if mask is None else mask.double()
    assert_equal(result, reference.attention(q.double(), k.double(), v.double(), heads, wide, scale), q.dtype)


@pytest.mark.law("P12")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_equals_its_reference(shape: Shape, dtype: torch.dtype) -> None:
    q, k, v, mask = inputs(shape, dtype)
    assert_attention_equals(q, k, v, shape.heads, mask, None)


@pytest.mark.law("P12")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("frames", "places", "head_dim"), [(24, 3, 64), (16, 5, 40), (40, 2, 64), (1, 4, 80), (7, 1, 32)]
)
def test_attention_over_frames_equals_its_reference(
    frames: int, places: int, head_dim: int, dtype: torch.dtype
) -> None:
    film = [normal(2, frames, places, 2 * head_dim, dtype=dtype, seed=seed) for seed in range(3)]
    with dispatch.record() as ran:
        result = ops.frame_attention(*film, 2, kernels="triton")
    assert ran == {("frame_attention", "triton"): 1}
    assert_equal(result, reference.frame_attention(*(x.double() for x in film), 2), dtype)


@pytest.mark.law("P12")
@settings(max_examples=25, deadline=None)
@given(
    lq=st.integers(1, 70),
    lk=st.integers(1, 140),
    head_dim=st.sampled_from(plan.HEAD_DIMS),
    heads=st.integers(1, 2),
    pair=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    masked=st.booleans(),
    scale=st.sampled_from([None, 0.05, 1.0]),
)
def test_any_shape(
    lq: int, lk: int, head_dim: int, heads: int, pair: tuple[int, int], masked: bool, scale: float | None
) -> None:
    q, k, v, mask = inputs(Shape(lq, lk, head_dim, heads, *pair, masked), torch.float16)
    assert_attention_equals(q, k, v, heads, mask, scale)


# Masks


@pytest.mark.parametrize("lk", [40, 150])
def test_masks_that_broadcast_or_hide_everything(lk: int) -> None:
    q, k, v, _ = inputs(Shape(10, lk, 40, batch=2), torch.float32)
    hidden = torch.zeros(2, 1, 10, lk, device=DEVICE)
    hidden[0, 0, 3] = float("-inf")  # a query that may see nothing
    hidden[1, 0, :, lk // 2 :] = float("-inf")
    per_key = normal(1, 1, 1, lk, dtype=torch.float32, seed=5)
    turned = normal(1, 2, lk, 10, dtype=torch.float32, seed=6).transpose(2, 3)
    for mask in (hidden, per_key, turned, hidden.half()):
        result = ops.attention(q, k, v, 2, mask, kernels="triton")
        exact = reference.attention(q.double(), k.double(), v.double(), 2, mask.double())
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)
    assert (ops.attention(q, k, v, 2, hidden, kernels="triton")[0, 3] == 0).all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("lk", [40, 77, 150])
def test_a_query_whose_keys_are_all_given_the_least_number_sees_them_alike(lk: int, dtype: torch.dtype) -> None:
    """Masks are made with `finfo.min` as well as with -inf; times log2(e) that would be -inf, and the query see nothing."""
    q, k, v, _ = inputs(Shape(10, lk, 40, batch=2), dtype)
    for kind in (torch.float32, torch.bfloat16):
        mask = torch.zeros(2, 1, 10, lk, device=DEVICE, dtype=kind)
        mask[0, 0, 3] = torch.finfo(kind).min
        mask[0, 0, 4, lk // 2 :] = torch.finfo(kind).min
        mask[1, 0, :, lk // 2 :] = float("-inf")
        mask[1, 0, 5] = float("-inf")
        mask[1, 0, 6, : lk // 2] = torch.finfo(kind).min
        result = ops.attention(q, k, v, 2, mask, kernels="triton")
        assert_equal(result, reference.attention(q.double(), k.double(), v.double(), 2, mask.double()), dtype)
        torch.testing.assert_close(result[0, 3].float(), v[0].float().mean(0), rtol=2e-2, atol=2e-3)
        assert (result[1, 5] == 0).all()


# Strides


@pytest.mark.parametrize("length", [24, 70, 130])
def test_views_are_read_where_they_lie_or_copied(length: int) -> None:
    packed = normal(2, length, 3 * 80, dtype=torch.float16, seed=1)
    q, k, v = packed.chunk(3, dim=2)
    assert attention_triton.readable(q) is q and attention_triton.readable(v) is v
    views = {
        "packed projections": (q, k, v),
        "one batch row for all": tuple(x[:1].expand(2, -1, -1) for x in (q, k, v)),
        "one token for all": tuple(x[:, :1].expand(-1, length, -1) for x in (q, k, v)),
        "turned": tuple(normal(2, 80, length, dtype=torch.float16, seed=s).transpose(1, 2) for s in range(3)),
        "every other row": tuple(normal(2, 2 * length, 80, dtype=torch.float16, seed=s)[:, ::2] for s in range(3)),
        "off by one element": tuple(
            normal(2 * length * 80 + 1, dtype=torch.float16, seed=s)[1:].view(2, length, 80) for s in range(3)
        ),
        "off by one column": tuple(normal(2, length, 81, dtype=torch.float16, seed=s)[..., 1:] for s in range(3)),
    }
    for name, (q, k, v) in views.items():
        if length > 24:
            q = q[:, :16]
        result = ops.attention(q, k, v, 2, kernels="triton")
        exact = reference.attention(q.double(), k.double(), v.double(), 2)
        assert ((result.double() - exact).norm() / exact.norm()) < 1e-3, name
        assert result.is_contiguous()


def test_films_that_are_views_are_read_where_they_lie_or_copied() -> None:
    frames, places, width = 5, 4, 80

    def films(*shape: int) -> list[Tensor]:
        return [normal(*shape, dtype=torch.float16, seed=seed) for seed in range(3)]

    views = {
        "packed projections": list(normal(2, frames, places, 3 * width, dtype=torch.float16, seed=1).chunk(3, dim=3)),
        "frames behind places": [x.transpose(1, 2) for x in films(2, places, frames, width)],
        "every other frame": [x[:, ::2] for x in films(2, 2 * frames, places, width)],
        "every other place": [x[:, :, ::2] for x in films(2, frames, 2 * places, width)],
        "one film for all": [x.expand(2, -1, -1, -1) for x in films(1, frames, places, width)],
        "one frame for all": [x.expand(-1, frames, -1, -1) for x in films(2, 1, places, width)],
        "one place for all": [x.expand(-1, -1, places, -1) for x in films(2, frames, 1, width)],
        "columns that are no neighbours": [x[..., ::2] for x in films(2, frames, places, 2 * width)],
        "turned": [x.movedim(1, 3) for x in films(2, width, frames, places)],
        "off by one column": [x[..., 1:] for x in films(2, frames, places, width + 1)],
    }
    for name, film in views.items():
        assert film[0].shape == (2, frames, places, width), name
        result = ops.frame_attention(*film, 2, kernels="triton")
        exact = reference.frame_attention(*(x.double() for x in film), 2)
        assert ((result.double() - exact).norm() / exact.norm()) < 1e-3, name
        assert result.is_contiguous()
    assert all(attention_triton.readable(x) is x for x in views["packed projections"])


def test_films_of_nothing_give_nothing() -> None:
    for shape in ((0, 5, 4, 80), (2, 0, 4, 80), (2, 5, 0, 80)):
        film = torch.empty(shape, dtype=torch.float16, device=DEVICE)
        assert ops.frame_attention(film, film, film, 2, kernels="triton").shape == shape


def test_offsets_beyond_32_bits() -> None:
    """Batch rows that lie 2³¹ elements apart: memory that is reserved, of which little is touched."""
    far = 2**31 + 64
    for length in (24, 70, 140):
        exact, views = [], []
        for seed in range(3):
            storage = torch.empty(0, dtype=torch.float16, device=DEVICE)
            storage.untyped_storage().resize_(2 * (far + length * 80))
            view = storage.as_strided((2, length, 80), (far, 80, 1))
            view.copy_(normal(2, length, 80, dtype=torch.float16, seed=seed))
            views.append(view)
            exact.append(view.double())
        few = 24 if length == 24 else 8
        result = ops.attention(views[0][:, :few], *views[1:], 2, kernels="triton")
        assert_equal(result, reference.attention(exact[0][:, :few], *exact[1:], 2), torch.float16)


# NaN and infinity

NUMPY_TELLS = pytest.mark.filterwarnings(  # the interpreter is numpy
    "ignore:invalid value encountered:RuntimeWarning", "ignore:All-NaN slice:RuntimeWarning"
)


@NUMPY_TELLS
@pytest.mark.parametrize(("lq", "lk"), [(10, 150), (10, 77)])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [0, 1, 2], ids=["q", "k", "v"])
def test_what_is_not_finite_comes_out_where_it_does_in_the_reference(
    lq: int, lk: int, poison: float, where: int
) -> None:
    tensors = list(inputs(Shape(lq, lk, 40, batch=2), torch.float32)[:3])
    tensors[where][1, 7, 50] = poison
    result = ops.attention(*tensors, 2, kernels="triton")
    exact = reference.attention(*tensors, 2)
    assert torch.equal(result.isfinite(), exact.isfinite())
    assert not result.isfinite().all() or poison == float("-inf")
    torch.testing.assert_close(result[exact.isfinite()], exact[exact.isfinite()], rtol=1e-4, atol=1e-5)


@NUMPY_TELLS
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_in_a_packed_sequence_is_never_hidden(poison: float) -> None:
    """It may also reach the sequence in the same tile (zero times infinity): docs/performance.md says so."""
    q, k, v, _ = inputs(Shape(24, 24, 64, batch=5), torch.float32)
    v[2, 7, 50] = poison
    result, exact = ops.attention(q, k, v, 2, kernels="triton"), reference.attention(q, k, v, 2)
    assert not result[2, :, 50].isfinite().any() and not exact[2, :, 50].isfinite().any()
    same_tile = {2, 3}
    others = [i for i in range(5) if i not in same_tile]
    torch.testing.assert_close(result[others], exact[others], rtol=1e-4, atol=1e-5)
    fine = result.isfinite()
    torch.testing.assert_close(result[fine], exact[fine], rtol=1e-4, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    q, k, v, _ = inputs(Shape(40, 150, 40), torch.float16)
    assert_attention_equals(q * 60, k * 60, v, 2, None, 1.0)


# Gradients and torch.compile


@pytest.mark.law("P12")
def test_gradients_pass_through_a_kernel() -> None:
    q, k, v, _ = inputs(Shape(24, 40, 40), torch.float32)
    tensors = [x.requires_grad_() for x in (q, k, v)]
    ours = torch.autograd.grad(ops.attention(q, k, v, 2, kernels="triton").square().sum(), tensors)
    exact = torch.autograd.grad(reference.attention(q, k, v, 2).square().sum(), tensors)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_compiled_graph_with_a_kernel_stays_whole() -> None:
    q, k, v, _ = inputs(Shape(24, 40, 40), torch.float32)

    def block(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.attention(q * 2, k, v, 2, kernels="triton") + 1

    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(q, k, v), block(q, k, v))
    torch._dynamo.reset()


# Who cannot be served


def a_case(**changes: int | str) -> Case:
    sizes = {"B": 2, "H": 8, "Lq": 64, "Lk": 64, "D": 40, "mask": 0, "elements": 1}
    fields: dict[str, int | str] = {"device_type": "cuda", "arch": 90, "device_name": "", "dtype": "float16"}
    for name, value in changes.items():
        (sizes if name in sizes else fields)[name] = value  # type: ignore[assignment]
    return Case("attention", sizes=tuple(sizes.items()), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"D": 44}, "there are kernels for head dims"),
        ({"D": 512}, "there are kernels for head dims"),
        ({"dtype": "float64"}, "not float64"),
        ({"elements": 2**31}, "one batch row"),
        ({"Lq": 2**23}, "one batch row"),
        ({"Lq": 2**17, "Lk": 2**14, "mask": 1}, "the mask of one head"),
        ({"arch": 75}, "compute capability 8.0 or later, this device has 7.5"),
        ({"arch": 0}, "compute capability"),
        ({"device_type": "mps", "arch": 0}, "need a CUDA device"),
    ],
)
def test_a_case_without_a_kernel_goes_elsewhere_and_an_order_is_refused(
    changes: dict[str, int | str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "interpreting", lambda: False)
    dispatch.choose.cache_clear()
    case = a_case(**changes)
    assert dispatch.choose(a_case()).name == "triton"
    assert dispatch.choose(case).family == "sdpa"
    with pytest.raises(dispatch.KernelError, match="cannot compute attention") as told:
        dispatch.choose(case, "triton")
    assert says in str(told.value) and "Choose kernels='auto'" in str(told.value)
    dispatch.choose.cache_clear()


def test_films_in_float32_go_to_the_kernel_where_its_tiles_fit_the_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "interpreting", lambda: False)
    dispatch.choose.cache_clear()
    for dtype, frames, head_dim, name in (
        ("float32", 32, 96, "triton"),
        ("float32", 33, 64, "sdpa"),
        ("float32", 24, 120, "sdpa"),
        ("bfloat16", 64, 160, "triton"),
    ):
        case = a_case(Lq=frames, Lk=frames, D=head_dim, dtype=dtype)._replace(operation="frame_attention")
        assert dispatch.choose(case).name == name
        assert dispatch.choose(case, "triton").name == "triton"
    dispatch.choose.cache_clear()


def test_values_that_span_too_much_are_noticed_also_where_queries_and_keys_do_not() -> None:
    rows, width = 2**25 + 1, 16
    q = torch.zeros(1, 1, width, dtype=torch.float16)
    k = torch.zeros(1, 1, width, dtype=torch.float16).expand(1, rows, width)
    v = torch.empty(1, rows, 4 * width, dtype=torch.float16, device="meta")[..., :width]
    assert "one batch row" in str(attention_triton.why_not(ops.attention_case(q, k, v, 1)))
    assert attention_triton.why_not(ops.attention_case(q, k, k, 1)) is None


def test_an_xformers_that_is_broken_is_told_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").touch()
    (tmp_path / "xformers" / "ops.py").write_text('raise OSError("libcudart.so.12: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xformers", raising=False)
    attention.why_no_xformers.cache_clear()
    dispatch.choose.cache_clear()
    try:
        with pytest.raises(dispatch.KernelError, match=r"libcudart.so.12: cannot open.*install anyloom\[gpu\]"):
            dispatch.choose(a_case(), "xformers")
        assert dispatch.choose(a_case()).family != "xformers"
    finally:
        sys.modules.pop("xformers", None)
        attention.why_no_xformers.cache_clear()
        dispatch.choose.cache_clear()


def test_without_triton_everything_works_and_an_order_says_what_to_install() -> None:
    """In a process of its own, which cannot import triton."""
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ImportError("no triton here")
sys.meta_path.insert(0, Absent())
import torch
from custom_kernels import dispatch, ops
q = torch.randn(1, 6, 80)
with dispatch.record() as ran:
    assert ops.attention(q, q, q, 2).isfinite().all()
    ops.frame_attention(q[None], q[None], q[None], 2)
    ops.group_norm_silu(q.transpose(1, 2), 8)
    ops.geglu(q)
assert all(name != "triton" for _, name in ran) and len(ran) == 4, ran
try:
    ops.attention(q, q, q, 2, kernels="triton")
except dispatch.KernelError as error:
    assert "install anyloom[gpu]" in str(error), error
else:
    raise AssertionError("an order that cannot be carried out was taken")
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr


# Plans


@pytest.mark.parametrize(
    ("width", "parts"),
    [(1, (16, 0)), (16, (16, 0)), (24, (32, 0)), (40, (32, 16)), (48, (32, 16)), (64, (64, 0)), (72, (64, 16)), (77, (64, 16)),
     (80, (64, 16)), (96, (64, 32)), (100, (128, 0)), (120, (128, 0)), (128, (128, 0)), (160, (128, 32))],
)  # fmt: skip
def test_widths_are_split_with_the_least_padding(width: int, parts: tuple[int, int]) -> None:
    assert plan.split(width) == parts


@pytest.mark.parametrize(
    ("lq", "lk", "head_dim", "repeat", "masked", "element_bytes", "kernel"),
    [
        (4096, 4096, 40, 1, False, 2, "long"),
        (4096, 129, 40, 1, False, 2, "long"),
        (4096, 128, 40, 1, False, 2, "short"),
        (2880, 77, 64, 24, False, 2, "short"),
        (64, 77, 160, 1, False, 2, "short"),
        (64, 77, 160, 1, False, 4, "long"),  # 100 KiB of keys and values in float32
        (24, 24, 64, 1, False, 2, "packed"),
        (24, 24, 64, 24, False, 2, "short"),
        (24, 24, 64, 1, True, 2, "short"),
        (33, 33, 64, 1, False, 2, "short"),
    ],
)
def test_each_size_has_its_kernel(
    lq: int, lk: int, head_dim: int, repeat: int, masked: bool, element_bytes: int, kernel: str
) -> None:
    assert plan.kind(lq, lk, head_dim, repeat, masked, element_bytes) == kernel


@pytest.mark.parametrize("call", production.ATTENTION, ids=str)
def test_every_call_of_the_production_models_has_a_kernel_and_a_choice(
    call: production.AttentionCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "interpreting", lambda: False)
    dispatch.choose.cache_clear()
    case = a_case(B=call.batch, H=call.heads, Lq=call.lq, Lk=call.lk, D=call.head_dim, dtype="bfloat16")
    assert dispatch.choose(case, "triton").name == "triton"
    # Where nothing was measured, torch keeps the long rows of the head dims that it does not pad.
    kept = call.lk > 128 and call.head_dim in (64, 120, 128)
    assert dispatch.choose(case).name == ("sdpa" if kept else "triton")
    masked = a_case(Lq=call.lq, Lk=4096, D=call.head_dim, mask=1)
    assert dispatch.choose(masked).name == "sdpa"
    dispatch.choose.cache_clear()


@given(st.integers(1, 256))
def test_no_sum_of_two_is_smaller(width: int) -> None:
    first, second = plan.split(width)
    powers = [16 << i for i in range(6)]
    sums = [a + b for a in powers for b in [0, *powers] if a + b >= width]
    assert width <= first + second == min(sums)


def test_launches_come_from_the_table_and_nonsense_is_refused() -> None:
    default = plan.default_launch("long", 40, "bfloat16", 90)
    assert plan.launch("long", 40, "bfloat16", 90, {}) == default
    tuned = {"long/40/bfloat16": {"block_m": 64, "num_warps": 4}}
    assert plan.launch("long", 40, "bfloat16", 90, tuned) == default._replace(block_m=64, num_warps=4)
    for wrong in ({"block_m": 100}, {"block_n": 8}, {"num_warps": 3}, {"num_stages": 0}, {"waves": 2}):
        with pytest.raises(ValueError, match="no kernel can have"):
            plan.launch("long", 40, "bfloat16", 90, {"long/40/bfloat16": wrong})


def test_tiles_are_shared_so_that_no_multiprocessor_idles() -> None:
    for rows, tiles, processors in ((16, 64, 132), (240, 45, 132), (1, 1, 132), (16, 1, 1), (5760, 3, 108)):
        share = attention_triton.share_tiles(rows, tiles, processors)
        programs = rows * -(-tiles // share)
        assert 1 <= share <= min(16, tiles)
        assert share == 1 or programs >= 8 * processors * 0.9
