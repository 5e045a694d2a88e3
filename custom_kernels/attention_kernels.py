"""Attention in Triton: three kernels over the layout "B L H·D", which is what the projections give.

`long_attention` walks over the keys with the online softmax of FlashAttention-2 (Dao 2023, algorithm 1),
`short_attention` has all keys (at most 128) at hand and needs no such walk, `packed_attention` computes several short
sequences in one tile. In all of them

* a head dim that is no power of two is the sum of two (40 = 32 + 16 with 8 columns of zeros, 80 = 64 + 16), and each
  product with it is two products: padding to the next power would cost up to 1.6 times the arithmetic;
* row strides and head dims are constexpr. From an integer argument of 40 or 120 the compiler cannot prove that rows
  begin at multiples of 16 bytes, and falls back to loads of 2 bytes without asynchronous copies;
* batch strides come in units of 8 elements and are multiplied in 64 bits;
* scores are kept in base 2: `qk_scale` is scale · log2(e).

`UPCAST` is for the interpreter, which multiplies the bit patterns of bfloat16 as integers: values are then rounded to
bfloat16 in the same places, and multiplied in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-2.35e38)  # times log2(e) the least that float32 holds


@triton.jit
def _tile(
    at, rows, row_ok, columns, ROW: tl.constexpr, D: tl.constexpr, ALL_ROWS: tl.constexpr, ALL_COLUMNS: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Load rows x columns from `at`; zeros where a row is not ok or a column is past D."""
    pointers = at + rows[:, None] * ROW + columns[None, :]
    column_ok = columns < D
    if ALL_ROWS and ALL_COLUMNS:
        x = tl.load(pointers)
    elif ALL_ROWS:
        x = tl.load(pointers, mask=column_ok[None, :], other=0.0)
    elif ALL_COLUMNS:
        x = tl.load(pointers, mask=row_ok[:, None], other=0.0)
    else:
        x = tl.load(pointers, mask=row_ok[:, None] & column_ok[None, :], other=0.0)
    if UPCAST:
        x = x.to(tl.float32)
    return x


@triton.jit
def _write(at, rows, row_ok, columns, x, ROW: tl.constexpr, D: tl.constexpr, ALL_COLUMNS: tl.constexpr):
    pointers = at + rows[:, None] * ROW + columns[None, :]
    if ALL_COLUMNS:
        tl.store(pointers, x, mask=row_ok[:, None])
    else:
        tl.store(pointers, x, mask=row_ok[:, None] & (columns < D)[None, :])


@triton.jit
def _rounded(x, LIKE: tl.constexpr, UPCAST: tl.constexpr):
    """x in the type in which the tensor cores take it."""
    x = x.to(LIKE)
    if UPCAST:
        x = x.to(tl.float32)
    return x


@triton.jit
def _summand(at, readable):
    """A piece of the mask, in base 2. Masks of the least number of their type do not become -inf: a query that is given
    nothing else sees all keys alike, one that is given -inf sees none."""
    added = tl.load(at, mask=readable, other=0.0).to(tl.float32)
    return tl.where((added < LOWEST) & (added != float("-inf")), LOWEST, added) * LOG2E


@triton.jit
def _scores(q0, q1, k0, k1, SECOND: tl.constexpr, PRECISION: tl.constexpr):
    s = tl.dot(q0, tl.trans(k0), input_precision=PRECISION)
    if SECOND:
        s = tl.dot(q1, tl.trans(k1), s, input_precision=PRECISION)
    return s


@triton.jit
def _step(
    acc0, acc1, total, top, q0, q1, k_at, v_at, mask_at, n, queries, row_ok, lk, mask_row, mask_col, qk_scale,
    D: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, ROW_K: tl.constexpr, ROW_V: tl.constexpr,
    BLOCK_N: tl.constexpr, ALL: tl.constexpr, MASK: tl.constexpr, PRECISION: tl.constexpr, LIKE: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of keys; ALL of them exist, or those before `lk`."""
    FULL0: tl.constexpr = FIRST <= D
    FULL1: tl.constexpr = FIRST + SECOND <= D
    keys = n + tl.arange(0, BLOCK_N)
    key_ok = keys < lk
    columns0 = tl.arange(0, FIRST)
    k0 = _tile(k_at, keys, key_ok, columns0, ROW_K, D, ALL, FULL0, UPCAST)
    k1 = k0
    if SECOND:
        k1 = _tile(k_at, keys, key_ok, FIRST + tl.arange(0, SECOND), ROW_K, D, ALL, FULL1, UPCAST)
    s = _scores(q0, q1, k0, k1, SECOND, PRECISION)
    if MASK:
        readable = row_ok[:, None] & key_ok[None, :]
        at = mask_at + (queries[:, None] * mask_row + keys[None, :] * mask_col)
        s = s * qk_scale + _summand(at, readable)
        if not ALL:
            s = tl.where(key_ok[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row may have nothing to see: -inf - -inf
        p = tl.exp2(s - base[:, None])
    else:
        if not ALL:
            s = tl.where(key_ok[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1) * qk_scale)
        base = new_top
        p = tl.exp2(s * qk_scale - base[:, None])  # one fused multiply-add per score
    shrink = tl.exp2(top - base)
    total = total * shrink + tl.sum(p, 1)
    acc0 = acc0 * shrink[:, None]
    p = _rounded(p, LIKE, UPCAST)
    v0 = _tile(v_at, keys, key_ok, columns0, ROW_V, D, ALL, FULL0, UPCAST)
    acc0 = tl.dot(p, v0, acc0, input_precision=PRECISION)
    if SECOND:
        acc1 = acc1 * shrink[:, None]
        v1 = _tile(v_at, keys, key_ok, FIRST + tl.arange(0, SECOND), ROW_V, D, ALL, FULL1, UPCAST)
        acc1 = tl.dot(p, v1, acc1, input_precision=PRECISION)
    return acc0, acc1, total, new_top


@triton.jit
def long_attention(
    Q, K, V, OUT, M, qk_scale, q_batch8, k_batch8, v_batch8, mask_batch, mask_head, mask_row, mask_col, lq, lk,
    repeat,  # rows of q that share one row of k and v
    HEADS: tl.constexpr,
    D: tl.constexpr,
    FIRST: tl.constexpr,  # columns of the two parts; SECOND may be 0
    SECOND: tl.constexpr,
    ROW_Q: tl.constexpr, ROW_K: tl.constexpr, ROW_V: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    MASK: tl.constexpr,
    EVEN_N: tl.constexpr,  # lk is a multiple of BLOCK_N
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M queries of one head against all keys. Programs of one head are neighbours and share its keys
    in the L2 cache."""
    LIKE: tl.constexpr = Q.dtype.element_ty
    WIDE: tl.constexpr = SECOND if SECOND else 16
    blocks = tl.cdiv(lq, BLOCK_M)
    program = tl.program_id(0)
    row = program // blocks
    batch = row // HEADS
    head = row % HEADS
    q_at = Q + batch.to(tl.int64) * q_batch8 * 8 + head * D
    k_at = K + (batch // repeat).to(tl.int64) * k_batch8 * 8 + head * D
    v_at = V + (batch // repeat).to(tl.int64) * v_batch8 * 8 + head * D
    queries = (program % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_ok = queries < lq
    mask_at = M
    if MASK:
        mask_at = M + batch.to(tl.int64) * mask_batch + head.to(tl.int64) * mask_head
    columns0 = tl.arange(0, FIRST)
    columns1 = FIRST + tl.arange(0, WIDE)
    q0 = _tile(q_at, queries, row_ok, columns0, ROW_Q, D, False, FIRST <= D, UPCAST)
    q1 = q0
    if SECOND:
        q1 = _tile(q_at, queries, row_ok, columns1, ROW_Q, D, False, FIRST + SECOND <= D, UPCAST)

    acc0 = tl.zeros([BLOCK_M, FIRST], tl.float32)
    acc1 = tl.zeros([BLOCK_M, WIDE], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    whole = lk
    if not EVEN_N:
        whole = lk - lk % BLOCK_N
    for n in tl.range(0, whole, BLOCK_N):
        acc0, acc1, total, top = _step(
            acc0, acc1, total, top, q0, q1, k_at, v_at, mask_at, n, queries, row_ok, lk, mask_row, mask_col, qk_scale,
            D, FIRST, SECOND, ROW_K, ROW_V, BLOCK_N, True, MASK, PRECISION, LIKE, UPCAST,
        )  # fmt: skip
    if not EVEN_N:
        for n in tl.range(whole, lk, BLOCK_N, num_stages=1):  # one turn; as a loop it shares the registers of the walk
            acc0, acc1, total, top = _step(
                acc0, acc1, total, top, q0, q1, k_at, v_at, mask_at, n, queries, row_ok, lk, mask_row, mask_col, qk_scale,
                D, FIRST, SECOND, ROW_K, ROW_V, BLOCK_N, False, MASK, PRECISION, LIKE, UPCAST,
            )  # fmt: skip
    if MASK:  # nothing was seen: zeros, not 0 / 0
        total = tl.where(total == 0.0, 1.0, total)
    share = 1.0 / total  # a division per row, not one per element
    o_at = OUT + batch.to(tl.int64) * lq * (HEADS * D) + head * D
    _write(o_at, queries, row_ok, columns0, (acc0 * share[:, None]).to(LIKE), HEADS * D, D, FIRST <= D)
    if SECOND:
        _write(o_at, queries, row_ok, columns1, (acc1 * share[:, None]).to(LIKE), HEADS * D, D, FIRST + SECOND <= D)


@triton.jit
def short_attention(
    Q, K, V, OUT, M, qk_scale, q_batch8, k_batch8, v_batch8, mask_batch, mask_head, mask_row, mask_col, lq, lk,
    repeat,  # rows of q that share one row of k and v
    share_tiles,  # tiles of queries that one program computes with the keys it holds
    HEADS: tl.constexpr, D: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
    ROW_Q: tl.constexpr, ROW_K: tl.constexpr, ROW_V: tl.constexpr,
    BLOCK_M: tl.constexpr,
    KEYS0: tl.constexpr,  # the keys too are two parts (77 = 64 + 16, with three rows of zeros); KEYS1 may be 0
    KEYS1: tl.constexpr,
    MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One program: `share_tiles` tiles of queries of one head, against all keys, which are read once."""
    LIKE: tl.constexpr = Q.dtype.element_ty
    FULL0: tl.constexpr = FIRST <= D
    FULL1: tl.constexpr = FIRST + SECOND <= D
    WIDE: tl.constexpr = SECOND if SECOND else 16
    LAST: tl.constexpr = KEYS1 if KEYS1 else 16
    tiles = tl.cdiv(lq, BLOCK_M)
    groups = tl.cdiv(tiles, share_tiles)
    program = tl.program_id(0)
    row = program // groups
    batch = row // HEADS
    head = row % HEADS
    q_at = Q + batch.to(tl.int64) * q_batch8 * 8 + head * D
    k_at = K + (batch // repeat).to(tl.int64) * k_batch8 * 8 + head * D
    v_at = V + (batch // repeat).to(tl.int64) * v_batch8 * 8 + head * D
    o_at = OUT + batch.to(tl.int64) * lq * (HEADS * D) + head * D
    columns0 = tl.arange(0, FIRST)
    columns1 = FIRST + tl.arange(0, WIDE)
    keys0 = tl.arange(0, KEYS0)
    keys1 = KEYS0 + tl.arange(0, LAST)
    ok0 = keys0 < lk
    ok1 = keys1 < lk
    k00 = _tile(k_at, keys0, ok0, columns0, ROW_K, D, False, FULL0, UPCAST)
    v00 = _tile(v_at, keys0, ok0, columns0, ROW_V, D, False, FULL0, UPCAST)
    k01 = k00
    v01 = v00
    k10 = k00
    v10 = v00
    k11 = k00
    v11 = v00
    if SECOND:
        k01 = _tile(k_at, keys0, ok0, columns1, ROW_K, D, False, FULL1, UPCAST)
        v01 = _tile(v_at, keys0, ok0, columns1, ROW_V, D, False, FULL1, UPCAST)
    if KEYS1:
        k10 = _tile(k_at, keys1, ok1, columns0, ROW_K, D, False, FULL0, UPCAST)
        v10 = _tile(v_at, keys1, ok1, columns0, ROW_V, D, False, FULL0, UPCAST)
    if SECOND and KEYS1:
        k11 = _tile(k_at, keys1, ok1, columns1, ROW_K, D, False, FULL1, UPCAST)
        v11 = _tile(v_at, keys1, ok1, columns1, ROW_V, D, False, FULL1, UPCAST)

    begin = (program % groups) * share_tiles
    for tile in tl.range(begin, tl.minimum(begin + share_tiles, tiles)):
        queries = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        row_ok = queries < lq
        q0 = _tile(q_at, queries, row_ok, columns0, ROW_Q, D, False, FULL0, UPCAST)
        q1 = q0
        if SECOND:
            q1 = _tile(q_at, queries, row_ok, columns1, ROW_Q, D, False, FULL1, UPCAST)
        s0 = _scores(q0, q1, k00, k01, SECOND, PRECISION) * qk_scale
        s1 = s0
        if KEYS1:
            s1 = _scores(q0, q1, k10, k11, SECOND, PRECISION) * qk_scale
        if MASK:
            mask_at = M + batch.to(tl.int64) * mask_batch + head.to(tl.int64) * mask_head
            at = mask_at + (queries[:, None] * mask_row + keys0[None, :] * mask_col)
            s0 += _summand(at, row_ok[:, None] & ok0[None, :])
            if KEYS1:
                at = mask_at + (queries[:, None] * mask_row + keys1[None, :] * mask_col)
                s1 += _summand(at, row_ok[:, None] & ok1[None, :])
        s0 = tl.where(ok0[None, :], s0, float("-inf"))
        top = tl.max(s0, 1)
        if KEYS1:
            s1 = tl.where(ok1[None, :], s1, float("-inf"))
            top = tl.maximum(top, tl.max(s1, 1))
        if MASK:
            top = tl.where(top == float("-inf"), 0.0, top)
        p0 = tl.exp2(s0 - top[:, None])
        total = tl.sum(p0, 1)
        p0 = _rounded(p0, LIKE, UPCAST)
        acc0 = tl.dot(p0, v00, input_precision=PRECISION)
        acc1 = acc0
        if SECOND:
            acc1 = tl.dot(p0, v01, input_precision=PRECISION)
        if KEYS1:
            p1 = tl.exp2(s1 - top[:, None])
            total += tl.sum(p1, 1)
            p1 = _rounded(p1, LIKE, UPCAST)
            acc0 = tl.dot(p1, v10, acc0, input_precision=PRECISION)
            if SECOND:
                acc1 = tl.dot(p1, v11, acc1, input_precision=PRECISION)
        if MASK:
            total = tl.where(total == 0.0, 1.0, total)
        share = 1.0 / total
        _write(o_at, queries, row_ok, columns0, (acc0 * share[:, None]).to(LIKE), HEADS * D, D, FULL0)
        if SECOND:
            _write(o_at, queries, row_ok, columns1, (acc1 * share[:, None]).to(LIKE), HEADS * D, D, FULL1)


@triton.jit
def packed_attention(
    Q, K, V, OUT, qk_scale, q_batch8, k_batch8, v_batch8, o_batch8,
    q_frame8, k_frame8, v_frame8, o_frame8,  # from one element of a sequence to the next, in units of 8
    sequences,
    places,  # sequences per batch row: their starts lie a row apart
    L: tl.constexpr,  # elements of a sequence
    HEADS: tl.constexpr, D: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr,
    PLACE_Q: tl.constexpr, PLACE_K: tl.constexpr, PLACE_V: tl.constexpr, PLACE_O: tl.constexpr,
    BLOCK_M: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One program: one head of BLOCK_M // L whole sequences, one below the other; scores between two are left out.

    The heads of the same sequences are neighbours, so that whole rows are read at one time.
    """
    LIKE: tl.constexpr = Q.dtype.element_ty
    FULL0: tl.constexpr = FIRST <= D
    FULL1: tl.constexpr = FIRST + SECOND <= D
    WIDE: tl.constexpr = SECOND if SECOND else 16
    PACK: tl.constexpr = BLOCK_M // L
    program = tl.program_id(0)
    head = program % HEADS
    rows = tl.arange(0, BLOCK_M)
    mine = rows // L
    frame = rows % L
    sequence = (program // HEADS) * PACK + mine
    ok = (mine < PACK) & (sequence < sequences)
    sequence = tl.where(ok, sequence, 0)
    batch = (sequence // places).to(tl.int64)
    place = (sequence % places).to(tl.int64)
    frame = frame.to(tl.int64)
    q_rows = (batch * q_batch8 + frame * q_frame8) * 8 + place * PLACE_Q
    k_rows = (batch * k_batch8 + frame * k_frame8) * 8 + place * PLACE_K
    v_rows = (batch * v_batch8 + frame * v_frame8) * 8 + place * PLACE_V
    o_rows = (batch * o_batch8 + frame * o_frame8) * 8 + place * PLACE_O
    columns0 = tl.arange(0, FIRST)
    columns1 = FIRST + tl.arange(0, WIDE)
    q0 = _tile(Q + head * D, q_rows, ok, columns0, 1, D, False, FULL0, UPCAST)
    k0 = _tile(K + head * D, k_rows, ok, columns0, 1, D, False, FULL0, UPCAST)
    v0 = _tile(V + head * D, v_rows, ok, columns0, 1, D, False, FULL0, UPCAST)
    q1 = q0
    k1 = k0
    v1 = v0
    if SECOND:
        q1 = _tile(Q + head * D, q_rows, ok, columns1, 1, D, False, FULL1, UPCAST)
        k1 = _tile(K + head * D, k_rows, ok, columns1, 1, D, False, FULL1, UPCAST)
        v1 = _tile(V + head * D, v_rows, ok, columns1, 1, D, False, FULL1, UPCAST)
    s = _scores(q0, q1, k0, k1, SECOND, PRECISION) * qk_scale
    s = tl.where(mine[:, None] == mine[None, :], s, float("-inf"))
    p = tl.exp2(s - tl.max(s, 1)[:, None])
    share = 1.0 / tl.sum(p, 1)
    p = _rounded(p, LIKE, UPCAST)
    acc0 = tl.dot(p, v0, input_precision=PRECISION)
    _write(OUT + head * D, o_rows, ok, columns0, (acc0 * share[:, None]).to(LIKE), 1, D, FULL0)
    if SECOND:
        acc1 = tl.dot(p, v1, input_precision=PRECISION)
        _write(OUT + head * D, o_rows, ok, columns1, (acc1 * share[:, None]).to(LIKE), 1, D, FULL1)
