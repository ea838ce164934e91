"""The space of networks: what is in it, what a mutation changes, and that two points are two networks."""

import random

import pytest

from configs import search
from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture
from pipeline.model.scaling_search import identity
from pipeline.model.variants import ScaledVariant
from pipeline.search.space import Space
from tests.configs import tiny  # noqa: F401 - it adds the networks that are searched


def space_around(text, **choices):
    config = search.get_config().space
    with config.unlocked():
        config.update(choices)
    variant = ScaledVariant.parse(text)
    return Space.around(variant.scaled(resolution=architecture(text).resolution), config)


def test_the_size_of_a_space_by_hand():
    """A stage of 16 channels: kernels 2, repeats 2, widths 1; MBConv 4 x 2, fused 4 x 2 - 1, separable 1."""
    space = space_around("tiniest", widths=(1.0,), repeats=(0, 1))
    assert space.size == 2 * 2 * (8 + 7 + 1)


def test_the_size_is_the_number_of_networks():
    space = space_around("tiny", kernels=(3,), repeats=(-1, 0, 1), expansions=(1, 4))
    first, second = (space.of_stage(index) for index in (0, 1))
    networks = {identity(space.variant((one, other))) for one in first for other in second}
    assert len(networks) == space.size == len(first) * len(second)
    assert {stage.repeats for stage in first} == {1, 2}  # a stage keeps a block
    assert {stage.strides for stage in second} == {2}
    assert {stage.output_filters for stage in first} == {8, 10}  # 6 channels are rounded to 8, and 10 to 16


@pytest.mark.slow
@pytest.mark.parametrize("text", ["b0", "mini0:width=0.6,resolution=20", "v2_b0"])
def test_what_is_drawn_is_in_the_space_and_can_be_read_again(text):
    space, rng = space_around(text), random.Random(0)
    for _ in range(50):
        stages = space.draw(rng)
        assert all(stage in space.of_stage(index) for index, stage in enumerate(stages))
        network = architecture(str(space.variant(stages)))
        assert network.resolution == architecture(text).resolution
        assert [block.strides for block in network.blocks if block.repeat == 0] == [stage.strides for stage in stages]
        assert ScaledVariant.parse(str(space.variant(stages))) == space.variant(stages)


@pytest.mark.slow
def test_a_mutation_changes_one_choice_of_one_stage():
    space, rng = space_around("mini0"), random.Random(0)
    stages, fields = space.draw(rng), set()
    for _ in range(300):
        changed = space.mutate(stages, rng)
        (different,) = [(one, other) for one, other in zip(stages, changed) if one != other]
        names = {name for name in vars(different[0]) if getattr(different[0], name) != getattr(different[1], name)}
        kinds = {different[0].block, different[1].block}
        if "block" in names:  # what has no effect is left out, and what a separable block lacked is drawn
            assert names <= {"block", "expand_ratio", "se_ratio"}
            assert "separable" in kinds or "fused_mbconv" in kinds
        elif kinds == {"fused_mbconv"} and "se_ratio" in names:
            assert names in ({"se_ratio"}, {"se_ratio", "expand_ratio"})
        else:
            assert len(names) == 1
        assert all(stage in space.of_stage(index) for index, stage in enumerate(changed))
        fields |= names
        stages = changed
    assert fields == {"block", "kernel_size", "expand_ratio", "se_ratio", "output_filters", "repeats"}


def test_neighbours_are_what_one_mutation_can_reach():
    space, rng = space_around("tiniest", expansions=(1, 4)), random.Random(0)
    stages = space.base_stages
    neighbours = set(space.neighbours(stages))
    assert stages not in neighbours
    assert {space.mutate(stages, rng) for _ in range(400)} == neighbours


@pytest.mark.parametrize(
    ("text", "choices", "said"),
    [
        ("mini0", {"kernels": ()}, "the space holds no network: config.space.kernels is empty"),
        ("mini0", {"operations": ("conv",)}, "config.space.operations has 'conv', which cannot be"),
        ("mini0", {"kernels": (4,)}, "config.space.kernels has 4, which cannot be"),
        ("mini0", {"widths": (float("nan"),)}, "config.space.widths has nan"),
        ("resnet50", {}, "resnet50:resolution=224 has blocks of the kind 'bottleneck'"),
        ("lite0", {}, "does not scale the repeats of its first and last stage"),
    ],
)
def test_a_space_that_cannot_be_is_one_line(text, choices, said):
    with pytest.raises(ConfigError) as error:
        space_around(text, **choices)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
