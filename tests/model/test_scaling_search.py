"""The grid search against the paper's choice and its constraint."""

import pytest

from pipeline.model.families.efficientnet import B0
from pipeline.model.scaling import Coefficients
from pipeline.model.scaling_search import search_coefficients

PAPER = Coefficients(1.2, 1.1, 1.15)


def test_the_papers_choice_is_among_the_candidates_for_twice_the_cost():
    candidates = {candidate.coefficients: candidate for candidate in search_coefficients(B0)}
    # B2 at the unrounded resolution: the published B2 has width 1.1 and depth 1.2.
    assert candidates[PAPER].count.params == 9_109_994
    assert candidates[PAPER].architecture.resolution == 258
    assert Coefficients(2.0, 1.0, 1.0) in candidates
    assert Coefficients(1.5, 1.5, 1.5) not in candidates
    for coefficients in candidates:
        alpha, beta, gamma = coefficients
        assert min(coefficients) >= 1
        assert alpha * beta**2 * gamma**2 == pytest.approx(2, rel=0.05)


def test_the_candidate_with_the_best_score_comes_first():
    best = search_coefficients(B0, score=lambda arch: -abs(arch.width - 1.1) - abs(arch.depth - 1.2))[0]
    assert best.coefficients == PAPER
    assert best.score == pytest.approx(0)


def test_without_a_score_the_closest_to_the_constraint_comes_first():
    candidates = search_coefficients(B0)
    misses = [abs(candidate.coefficients.cost_ratio - 2) for candidate in candidates]
    assert misses == sorted(misses)
    assert candidates[0].score is None


def test_a_budget_sets_the_constraint():
    for candidate in search_coefficients(B0, 385_814_752 * 1.5):
        assert candidate.coefficients.cost_ratio == pytest.approx(1.5, rel=0.05)


def test_a_budget_that_cannot_be_met_is_an_error():
    with pytest.raises(ValueError, match="below the baseline's 385,814,752"):
        search_coefficients(B0, 1e8)
    with pytest.raises(ValueError, match="smaller step"):
        search_coefficients(B0, step=0.9, tolerance=0.01)
