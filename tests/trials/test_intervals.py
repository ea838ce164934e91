"""Confidence intervals against SciPy's distribution and a textbook example."""

import pytest
from scipy import stats

from pipeline.trials.intervals import doubt, mean_and_half_width, percent, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 7, 8, 29, 30, 200])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_quantiles_are_those_of_scipy(degrees, confidence):
    assert t_quantile(degrees, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


def test_interval_of_three_runs():
    values = [0.921, 0.934, 0.925]
    mean, half_width = mean_and_half_width(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))
    assert mean == pytest.approx(0.92666667)


def test_one_run_has_no_interval():
    assert mean_and_half_width([0.9]) == (0.9, None)


def test_a_mean_is_written_with_its_interval():
    assert percent(0.93541, 0.00124) == "93.54 ± 0.12"
    assert percent(0.93541, None) == "93.54"
    assert percent(None, None) == "-"


@pytest.mark.parametrize(
    ("difference", "half_widths", "words"),
    [
        (
            0.0051,
            (0.003, 0.004),
            "more than",
        ),  # by Pythagoras, the interval of the difference is 0.005 wide to each side
        (0.0049, (0.003, 0.004), "within"),
        (-0.0051, (0.003, 0.004), "more than"),
        (-0.0049, (0.003, 0.004), "within"),
        (0.5, (0.003, None), "says nothing of chance"),
    ],
)
def test_a_difference_is_compared_with_both_intervals(difference, half_widths, words):
    assert words in doubt(difference, half_widths)
