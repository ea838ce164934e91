"""Random erasing against the paper's ranges."""

import numpy as np
import pytest
from scipy import stats

from pipeline.data.augmentation.erasing import RandomErasing

GREY = np.full((120, 80, 3), 300 % 256, np.uint8)


def erased_rectangles(probability, count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        # A channel of noise may hold the old value: all three at once hardly ever do on a whole line.
        changed = (RandomErasing(probability)(GREY, rng) != GREY).any(axis=2)
        yield np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0)), changed


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_erases_the_share_of_images(probability):
    erased = sum(changed.any() for *_, changed in erased_rectangles(probability, 2000))
    assert (
        stats.binomtest(erased, 2000, probability).pvalue > 1e-3
        if 0 < probability < 1
        else erased == 2000 * probability
    )


def test_rectangles_have_the_papers_areas_and_aspects_and_reach_every_edge():
    reached = set()
    for rows, columns, changed in erased_rectangles(1.0, 1500):
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() > 0.99 * height * width, "a full rectangle"
        assert 0.017 <= height * width / GREY[..., 0].size <= 0.42
        assert 0.25 <= height / width <= 4
        reached |= {
            ("top", rows[0] == 0),
            ("bottom", rows[-1] == 119),
            ("left", columns[0] == 0),
            ("right", columns[-1] == 79),
        }
    assert {edge for edge, touched in reached if touched} == {"top", "bottom", "left", "right"}


def test_leaves_its_argument_alone():
    before = GREY.copy()
    RandomErasing(1.0)(GREY, np.random.default_rng(0))
    assert np.array_equal(GREY, before)
