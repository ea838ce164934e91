"""Networks that are not trained: which limit they are beyond, and that they keep a place with a reward of 0."""

import pytest

from configs import search
from pipeline.errors import ConfigError
from pipeline.model.counting import count_activations, count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.variants import ScaledVariant
from pipeline.search.judging import Judge, judged_by
from pipeline.trials.costs import Unaffordable
from pipeline.trials.trials import Outcome

BASE, LARGE, STUCK = (ScaledVariant("mini0", resolution=pixels) for pixels in (16, 40, 64))


def cost(variant):
    if variant == STUCK:
        raise Unaffordable("the train step does not fit v5e-8")
    return float(variant.resolution)


def judge(counted=False, **limits):
    config = search.get_config()
    config.limits.update(limits)
    return Judge.of(config, BASE, cost, 10, counted)


def test_what_is_not_trained_has_a_reason_and_no_reward():
    trained = []

    def outcome_of(variant):
        trained.append(variant)
        return Outcome(0.5)

    judged = judged_by(judge(), outcome_of)
    stuck, large, base = (judged(variant) for variant in (STUCK, LARGE, BASE))
    assert (stuck.cost, stuck.outcome.problem, stuck.reward) == (None, "the train step does not fit v5e-8", 0.0)
    assert (large.cost, large.outcome.problem, large.reward) == (40.0, "cost 40 above 32", 0.0)
    assert (base.cost, base.outcome.top1, base.reward) == (16.0, 0.5, 0.5)
    assert trained == [BASE]


def test_counted_limits_are_known_before_a_trial():
    assert judge(counted=True).beyond(LARGE) == "cost 40 above 32"
    assert judge(counted=False).beyond(LARGE) is None  # it takes a compilation to know
    params = count_architecture(architecture("mini0"), 10).params
    assert judge(parameters=params).beyond(BASE) is None
    assert judge(parameters=params - 1).beyond(BASE) == f"parameters {params:,} above {params - 1:,}"
    assert judge(activations=1000).beyond(BASE).startswith("activations ")


def test_activations_by_hand():
    """tests/configs/tiny.py at 8 pixels: stem 8 x 4 x 4; an MBConv of two convolutions; two of three, strided."""
    from tests.configs import tiny  # noqa: F401 - it adds the network

    stem, first = 8 * 16, (8 + 8) * 16
    second = 16 * 16 + (16 + 8) * 4 + (16 + 16 + 8) * 4
    assert count_activations(architecture("tiny")) == stem + first + second + 16 * 4


def test_a_baseline_without_a_cost_is_one_line():
    config = search.get_config()
    with pytest.raises(
        ConfigError, match=r"^the baseline mini0:resolution=64 has no cost: the train step does not fit"
    ):
        Judge.of(config, STUCK, cost, 10, counted=False)
