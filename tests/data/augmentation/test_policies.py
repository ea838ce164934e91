"""The tables and the probabilities of AutoAugment v0 and RandAugment."""

import collections
import pickle

import numpy as np
import pytest
from scipy import stats

from pipeline.data.augmentation import levels
from pipeline.data.augmentation.autoaugment import V0, AutoAugment
from pipeline.data.augmentation.randaugment import RandAugment

# policy_v0 of the published autoaugment.py, as facts: operation, probability, level.
PUBLISHED_V0 = """
Equalize .8 1, ShearY .8 4; Color .4 9, Equalize .6 3; Color .4 1, Rotate .6 8; Solarize .8 3, Equalize .4 7;
Solarize .4 2, Solarize .6 2; Color .2 0, Equalize .8 8; Equalize .4 8, SolarizeAdd .8 3; ShearX .2 9, Rotate .6 8;
Color .6 1, Equalize 1.0 2; Invert .4 9, Rotate .6 0; Equalize 1.0 9, ShearY .6 3; Color .4 7, Equalize .6 0;
Posterize .4 6, AutoContrast .4 7; Solarize .6 8, Color .6 9; Solarize .2 4, Rotate .8 9; Rotate 1.0 7, TranslateY .8 9;
ShearX .0 0, Solarize .8 4; ShearY .8 0, Color .6 4; Color 1.0 0, Rotate .6 2; Equalize .8 4, Equalize .0 8;
Equalize 1.0 4, AutoContrast .6 2; ShearY .4 7, SolarizeAdd .6 7; Posterize .8 2, Solarize .6 10;
Solarize .6 8, Equalize .6 1; Color .8 6, Rotate .4 5"""

DRAWS = 100_000
IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture
def applied(monkeypatch):
    """Records what is applied instead of applying it."""
    calls = []
    monkeypatch.setattr(levels, "apply", lambda name, image, level, *_: calls.append((name, level)) or image)
    return calls


def test_table_is_the_published_one():
    published = [
        tuple((name, float(probability), int(level)) for name, probability, level in map(str.split, pair.split(",")))
        for pair in PUBLISHED_V0.split(";")
    ]
    assert list(V0) == published


def test_v0_draws_have_the_published_probabilities(applied):
    rng = np.random.default_rng(0)
    policy = AutoAugment("published")
    counts = collections.Counter()
    for _ in range(DRAWS):
        policy(IMAGE, rng)
        counts[tuple(applied)] += 1
        applied.clear()
    expected = collections.Counter()
    for first, second in V0:
        for use_first in (True, False):
            for use_second in (True, False):
                steps = (first[::2],) * use_first + (second[::2],) * use_second
                chance = first[1] if use_first else 1 - first[1]
                expected[steps] += chance * (second[1] if use_second else 1 - second[1]) / len(V0) * DRAWS
    assert not set(counts) - {steps for steps, count in expected.items() if count}
    outcomes = [steps for steps, count in expected.items() if count]
    result = stats.chisquare([counts[steps] for steps in outcomes], [expected[steps] for steps in outcomes])
    assert result.pvalue > 1e-3


@pytest.mark.slow
def test_randaugment_draws_each_operation_alike_and_always_applies_it(applied):
    rng = np.random.default_rng(0)
    policy = RandAugment(layers=2, magnitude=17, semantics="published")
    pairs = collections.Counter()
    for _ in range(DRAWS):
        policy(IMAGE, rng)
        assert len(applied) == 2
        assert {level for _, level in applied} == {17}
        pairs[tuple(applied)] += 1
        applied.clear()
    assert len(pairs) == 16**2
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3


def test_signs_are_even(monkeypatch):
    degrees = []
    monkeypatch.setattr(
        "pipeline.data.augmentation.operations.rotate", lambda image, angle: degrees.append(angle) or image
    )
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        levels.apply("Rotate", IMAGE, 10, AutoAugment("published").scale, rng)
    assert set(degrees) == {30.0, -30.0}
    assert stats.binomtest(degrees.count(30.0), len(degrees)).pvalue > 1e-3


@pytest.mark.parametrize("policy", [AutoAugment("published"), AutoAugment("clean"), RandAugment(2, 28, "clean")])
def test_depends_on_nothing_but_image_and_generator(policy):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    copy = pickle.loads(pickle.dumps(policy))
    for seed in range(40):
        once = policy(image, np.random.default_rng(seed))
        assert once.shape == image.shape
        assert np.array_equal(once, copy(image, np.random.default_rng(seed)))
