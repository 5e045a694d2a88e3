"""Which lines are read together."""

import random

import pytest

from nodes.nextgpt.training.lengths import OVERHEAD, apart


def cost(groups, lengths):
    return sum(len(rows) * max(lengths[row] for row in rows) + OVERHEAD for rows in groups)


@pytest.mark.parametrize("seed", range(20))
def test_every_line_is_read_once_and_nothing_cheaper_is_passed_over(seed):
    draw = random.Random(seed)
    lengths = [draw.randrange(1, 200) for _ in range(draw.randrange(1, 9))]
    groups = apart(lengths)
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    assert 1 <= len(groups) <= 3
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    ways = [[order]] + [[order[:i], order[i:]] for i in range(1, len(order))]
    ways += [[order[:i], order[i:j], order[j:]] for j in range(2, len(order)) for i in range(1, j)]
    assert cost(groups, lengths) == min(cost(way, lengths) for way in ways)


def test_lines_of_one_length_stay_together():
    assert apart([70] * 16) == [list(range(16))]


def test_one_long_line_is_read_by_itself():
    assert apart([400, 60, 60, 60]) == [[1, 2, 3], [0]]
