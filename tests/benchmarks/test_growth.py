"""What a network gains as it grows: interpolation by hand, and the published growth beside it."""

import pytest

from pipeline.benchmarks import growth
from pipeline.benchmarks.growth import Grown
from pipeline.model.variants import ScaledVariant

BASE = ScaledVariant("b0", resolution=224)


def made_up(**cycles):
    """A baseline of 100 cycles, and networks whose multiply-adds and parameters grow as powers of the cycles."""
    found = [Grown("baseline", BASE, 1000, 10, 100.0)]
    powers = {"depth": (1.0, 1.5), "width": (0.5, 2.0), "resolution": (0.8, 0.0)}
    for way, factors in cycles.items():
        one, other = powers[way]
        found += [
            Grown(way, BASE.scaled(depth=factor), 1000 * factor**one, 10 * factor**other, 100.0 * factor)
            for factor in factors
        ]
    return found


def test_a_budget_is_interpolated_between_the_networks_of_a_way():
    reached = growth.at_budget(made_up(depth=(3.0, 1.5), width=(1.2, 4.0), resolution=(1.4,)), 2.0)
    assert set(reached) == {"depth", "width"}  # the resolution ends before the budget
    assert reached["depth"] == pytest.approx((2.0, 2**1.5))  # a power stays one between any two points
    assert reached["width"] == pytest.approx((2**0.5, 4.0))


def test_the_verdict_names_the_way_with_most_and_only_if_all_can_be_compared():
    said = growth.verdict(made_up(depth=(1.5, 3.0), width=(4.0,), resolution=(3.0,)), 2.0)
    assert "most multiply-adds for a cycle: depth; most parameters: width" in said
    assert "x-tpu-b7: depth 3.44, width 3.26, pixels 1.56" in said  # 350 / 224
    said = growth.verdict(made_up(depth=(1.5, 3.0), width=(4.0,), resolution=(1.4,)), 2.0)
    assert "resolution: no networks on both sides of the budget" in said
    assert "most multiply-adds" not in said


def test_the_baseline_grows_in_one_dimension_at_a_time():
    found = growth.networks(ScaledVariant.parse("b0"))
    assert found[0] == ("baseline", BASE)
    assert len(found) == 10
    for way, variant in found[1:]:
        changed = {name for name in ("depth", "width", "resolution") if getattr(variant, name) != getattr(BASE, name)}
        assert changed == {way}
    macs = [growth.grown(way, variant, lambda _: 1.0, 1000).macs for way, variant in found]
    assert macs[0] / 1e6 == pytest.approx(386, abs=1)  # timm and Keras count 0.39 billion
    assert all(1.2 < count / macs[0] < 4 for count in macs[1:])
    assert growth.table([growth.grown(way, variant, lambda _: 1.0, 1000) for way, variant in found]).count("\n") == 10
