"""Charts, pictures of tables, heat maps: measured, not only made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from graph_engine import NodeError
from graph_engine.graph.kinds import IMAGE, MASK
from nodes.data import chart, heat_map, matrix_to_mask, read_heat_map, table_picture
from nodes.data.drawing import PALETTE

NUMBERS = {"columns": ["name", "n"], "rows": [["a", 10], ["b", 20], ["c", 5]]}
SIZE = {"width": 400, "height": 300}


def share(picture: Any, colour: str) -> float:
    """How much of a picture has a colour."""
    wanted = torch.tensor([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return float(((picture[0] - wanted).abs().amax(-1) < 0.02).float().mean())


@pytest.mark.parametrize("form", ["bar", "horizontal bar", "line", "area", "scatter", "pie"])
def test_every_form_draws_what_it_is_given(form: Any) -> None:
    picture = IMAGE.check(chart(NUMBERS, form, **SIZE))
    assert tuple(picture.shape) == (1, 300, 400, 3)
    other = {**NUMBERS, "rows": [["a", 10], ["b", 2], ["c", 5]]}
    assert (picture - chart(other, form, **SIZE)).abs().mean() > 0.001
    if form != "area":  # which is half transparent
        assert share(picture, PALETTE[0]) > 0.0004


def test_bars_are_as_long_as_their_numbers() -> None:
    tall = {"columns": ["x", "n"], "rows": [["a", 40], ["b", 10]]}
    picture = chart(tall, "bar", **SIZE)[0]
    blue = ((picture - torch.tensor([0x3B, 0x7D, 0xD8]) / 255).abs().amax(-1) < 0.02).float()
    heights = blue.sum(0)
    left, right = heights[:150].max(), heights[-100:].max()
    assert float(left / right) == pytest.approx(4, rel=0.04)


def test_pie_slices_have_their_share() -> None:
    picture = chart({"columns": ["x", "n"], "rows": [["a", 75], ["b", 25]]}, "pie", **SIZE)
    assert share(picture, PALETTE[0]) / share(picture, PALETTE[1]) == pytest.approx(3, rel=0.1)
    many = {"columns": ["x", "n"], "rows": [[f"p{n}", n + 1] for n in range(40)]}
    assert tuple(chart(many, "pie", **SIZE).shape) == (1, 300, 400, 3)


def test_series_side_by_side_and_on_top() -> None:
    two = {"columns": ["x", "a", "b"], "rows": [["p", 3, 4], ["q", None, 2]]}
    apart, stacked = chart(two, **SIZE), chart(two, stacked=True, **SIZE)
    assert all(share(picture, colour) > 0.01 for picture in (apart, stacked) for colour in PALETTE[:2])
    assert not torch.equal(apart, stacked)
    assert share(chart(two, values="b", **SIZE), PALETTE[1]) == 0


@pytest.mark.parametrize(
    ("table", "given", "port"),
    [
        ({"columns": ["a", "b"], "rows": []}, {}, "table"),
        ({"columns": ["a", "b"], "rows": [["x", "y"]]}, {}, "values"),
        ({"columns": ["a", "b"], "rows": [["x", "y"]]}, {"values": "b"}, "values"),
        (NUMBERS, {"labels": "nom"}, "labels"),
        ({"columns": ["a", "b"], "rows": [["x", -1]]}, {"form": "pie"}, "values"),
    ],
)
def test_what_cannot_be_drawn_is_said(table: Any, given: Any, port: str) -> None:
    with pytest.raises(NodeError) as caught:
        chart(table, **{**SIZE, **given})
    assert caught.value.problem.port == port
    assert caught.value.problem.remedy


def test_charts_of_several_threads_do_not_mix() -> None:
    tables = [{"columns": ["x", "n"], "rows": [["a", n + 1], ["b", 10]]} for n in range(6)]
    alone = [chart(table, **SIZE) for table in tables]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda table: chart(table, **SIZE), tables))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_tables_as_pictures_grow_with_their_cells() -> None:
    small = table_picture(NUMBERS)
    long = table_picture({"columns": ["name", "n"], "rows": [["a", n] for n in range(100)]}, rows=20)
    wide = table_picture({"columns": ["name", "n"], "rows": [["a long name that takes its place", 1]]}, "Title")
    assert IMAGE.check(small).shape[1] < long.shape[1]
    assert small.shape[2] < wide.shape[2]
    assert table_picture({"columns": ["a"], "rows": []}).ndim == 4


def test_heat_maps_are_read_back() -> None:
    mask = torch.linspace(0, 1, 50).repeat(2, 20, 1)
    for colours in ("viridis", "inferno", "coolwarm", "gray"):
        picture = heat_map(mask, colours=colours, stretch=False)  # type: ignore[arg-type]
        assert float((read_heat_map(IMAGE.check(picture), colours) - mask).abs().max()) < 0.01  # type: ignore[arg-type]


def test_heat_maps_over_pictures() -> None:
    ground = torch.full((1, 40, 60, 3), 0.5)
    mask = matrix_to_mask([[0, 5], [10, 5]])
    assert MASK.check(mask).tolist() == [[[0.0, 0.5], [1.0, 0.5]]]
    assert torch.equal(heat_map(mask, ground, opacity=0.0), ground)
    assert tuple(heat_map(mask, ground).shape) == (1, 40, 60, 3)
    with pytest.raises(NodeError, match="3 masks"):
        heat_map(torch.rand(3, 4, 4), torch.rand(2, 4, 4, 3))
    for wrong in ("x", [[1], [2, 3]], [["a"]], [], [[True]]):
        with pytest.raises(NodeError, match="matrix"):
            matrix_to_mask(wrong)
    assert matrix_to_mask([[7, 7]]).tolist() == [[[0.0, 0.0]]]
