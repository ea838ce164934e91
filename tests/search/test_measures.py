"""Rewards, fronts, hypervolumes and rank correlations, by hand and against SciPy."""

import random

import pytest
from scipy import stats

from pipeline.search.fronts import front, hypervolume
from pipeline.search.rank_correlation import spearman
from pipeline.search.reward import Reward


def test_the_soft_reward_is_that_of_the_paper():
    """arXiv 1807.11626, section 3: at the exponent -0.07, 5 % more accuracy pays for twice the latency."""
    reward = Reward("soft", target=75.0, exponent=-0.07)
    assert reward(0.75, 75.0) == 0.75
    assert reward(0.5 * 1.05, 150.0) == pytest.approx(reward(0.5, 75.0), rel=1e-3)
    assert reward(0.5, 37.5) == pytest.approx(0.5 * 1.0497, rel=1e-4)


def test_the_hard_reward_has_a_limit():
    reward = Reward("hard", target=75.0, exponent=-0.07)
    assert reward(0.6, 10.0) == reward(0.6, 75.0) == 0.6
    assert reward(0.6, 150.0) == 0.3


def test_a_front_by_hand():
    points = [(3.0, 0.5), (1.0, 0.4), (2.0, 0.3), (2.0, 0.6), (4.0, 0.6), (1.0, 0.4), (5.0, 0.9)]
    assert front(points) == [(1.0, 0.4), (2.0, 0.6), (5.0, 0.9)]


def test_a_hypervolume_by_hand():
    points = [(1.0, 0.4), (2.0, 0.6), (3.0, 0.5), (9.0, 1.0)]
    assert hypervolume(points, reference=4.0) == pytest.approx((1 * 0.4 + 2 * 0.6) / 4)
    assert hypervolume([], reference=4.0) == 0
    assert hypervolume([(4.0, 1.0)], reference=4.0) == 0


def test_a_hypervolume_against_counted_cells():
    rng = random.Random(0)
    for _ in range(20):
        points = [(float(rng.randrange(1, 20)), rng.randrange(20) / 20) for _ in range(8)]
        cells = sum(
            any(cost <= column and accuracy >= (level + 1) / 20 for cost, accuracy in points)
            for column in range(16)
            for level in range(20)
        )
        assert hypervolume(points, reference=16.0) == pytest.approx(cells / (16 * 20))


def test_ranks_correlate_as_in_scipy():
    rng = random.Random(0)
    for count in (2, 3, 10, 40):
        one, other = ([rng.randrange(30) for _ in range(count)] for _ in range(2))
        one[0], one[1], other[0], other[1] = 0, 1, 3, 2  # not all equal
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert spearman([1.0, 2.0, 3.0], [10.0, 20.0, 25.0]) == pytest.approx(1)
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 1.0], [2.0, 3.0]) is None
