from __future__ import annotations

import numpy
import pytest
import torch

from graph_engine.graph.outcome import Skip
from graph_engine.store.artifacts import Artifact, ListShape, shape_of, size_of


def test_shape_says_what_a_reader_must_know() -> None:
    outputs = (1, Skip("not signalled"), [1, Skip("x"), 3, Skip()], [], [1, Skip()])
    assert shape_of(outputs, (False, False, True, True, False)) == (
        None,
        Skip("not signalled"),
        ListShape(4, frozenset({1, 3})),
        ListShape(0),
        None,  # a list that is one plain value
    )


def test_without_flags_no_port_is_a_list() -> None:
    assert shape_of(([1, 2],)) == (None,)
    assert shape_of((Skip("m"),)) == (Skip("m"),)
    assert shape_of((1, [2])) == (None, None)


def test_a_skipped_list_port_is_skipped() -> None:
    assert shape_of((Skip("s"),), (True,)) == (Skip("s"),)


def test_flags_must_be_one_per_output() -> None:
    with pytest.raises(ValueError, match="zip"):
        shape_of((1, 2), (False,))


def test_an_artifact_is_immutable_and_equal_by_key() -> None:
    one, other = Artifact.of("k", (torch.ones(2),)), Artifact.of("k", (torch.ones(2),))
    assert one == other
    assert one == other
    assert len({one, other}) == 1
    assert one != Artifact.of("j", one.outputs)
    with pytest.raises(AttributeError):
        one.seconds = 3.0  # type: ignore[misc]


def test_tensors_are_charged_by_their_elements() -> None:
    assert size_of((torch.zeros(10, 10, dtype=torch.bfloat16),)) == 200
    assert 400 <= size_of(({"samples": torch.zeros(100)},)) < 1000


def test_shared_storage_is_counted_once() -> None:
    frames = torch.zeros(10, 1000)
    assert size_of((frames, frames, frames[2], frames.t())) == 40_000
    parts = list(frames.unbind())
    assert 40_000 <= size_of((parts,)) < 42_000
    array = numpy.zeros(1000)
    assert size_of((array, array[:500])) == 8000


def test_a_view_is_charged_for_what_it_shows() -> None:
    frames = torch.zeros(10, 1000)
    assert size_of((frames[0],)) == 4000
    assert size_of((torch.zeros(1).expand(1_000_000),)) == 4


def test_values_without_plain_storage_have_a_size() -> None:
    assert size_of((torch.eye(4).to_sparse(),)) > 0
    assert size_of((torch.empty(8, device="meta"),)) >= 0
    assert size_of((None, True, 1.0, 5, "text", b"bytes", Skip("m"))) > 0


def test_tensors_inside_foreign_objects_are_found() -> None:
    class Clip:
        def __init__(self) -> None:
            self.frames = torch.zeros(100_000)

    assert 400_000 <= size_of((Clip(),)) < 402_000


def test_cycles_end() -> None:
    loop: list[object] = ["x" * 1000]
    loop.append(loop)
    assert 1000 < size_of((loop,)) < 2000


def test_strings_and_bytes_grow_with_their_length() -> None:
    assert size_of(("x" * 10_000,)) - size_of(("",)) == 10_000
    assert size_of((["x" * 10_000, b"y" * 10_000],)) > 20_000
