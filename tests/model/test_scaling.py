"""The scaling rules against the published sizes."""

import dataclasses
import itertools

import pytest

from pipeline.model.counting import count_architecture
from pipeline.model.families import VARIANTS
from pipeline.model.families.efficientnet import B0
from pipeline.model.scaling import (
    Coefficients,
    architecture,
    compound_scale,
    round_filters,
    round_repeats,
    scale_baseline,
    survival_probabilities,
)

# Stem, output channels of the stages, repeats and head, from the published models.
PUBLISHED_SHAPES = {
    "b0": (32, "16 24 40 80 112 192 320", "1 2 2 3 3 4 1", 1280),
    "b1": (32, "16 24 40 80 112 192 320", "2 3 3 4 4 5 2", 1280),
    "b2": (32, "16 24 48 88 120 208 352", "2 3 3 4 4 5 2", 1408),
    "b3": (40, "24 32 48 96 136 232 384", "2 3 3 5 5 6 2", 1536),
    "b4": (48, "24 32 56 112 160 272 448", "2 4 4 6 6 8 2", 1792),
    "b5": (48, "24 40 64 128 176 304 512", "3 5 5 7 7 9 3", 2048),
    "b6": (56, "32 40 72 144 200 344 576", "3 6 6 8 8 11 3", 2304),
    "b7": (64, "32 48 80 160 224 384 640", "4 7 7 10 10 13 4", 2560),
    "b8": (72, "32 56 88 176 248 424 704", "4 8 8 11 11 15 4", 2816),
    "l2": (136, "72 104 176 344 480 824 1376", "6 11 11 16 16 22 6", 5504),
    "lite0": (32, "16 24 40 80 112 192 320", "1 2 2 3 3 4 1", 1280),
    "lite1": (32, "16 24 40 80 112 192 320", "1 3 3 4 4 5 1", 1280),
    "lite2": (32, "16 24 48 88 120 208 352", "1 3 3 4 4 5 1", 1280),
    "lite3": (32, "24 32 48 96 136 232 384", "1 3 3 5 5 6 1", 1280),
    "lite4": (32, "24 32 56 112 160 272 448", "1 4 4 6 6 8 1", 1280),
}


@pytest.mark.parametrize("variant", PUBLISHED_SHAPES)
def test_shape_is_the_published_one(variant):
    arch = architecture(variant)
    stages = [list(blocks) for _, blocks in itertools.groupby(arch.blocks, key=lambda block: block.stage)]
    widths = " ".join(str(blocks[-1].output_filters) for blocks in stages)
    repeats = " ".join(str(len(blocks)) for blocks in stages)
    assert (arch.stem_filters, widths, repeats, arch.head_filters) == PUBLISHED_SHAPES[variant]
    assert arch.family.activation == ("relu6" if variant.startswith("lite") else "swish")


def test_resolution_and_dropout_are_the_published_ones():
    published = {"b0": (224, 0.2), "b3": (300, 0.3), "b5": (456, 0.4), "b7": (600, 0.5), "lite3": (280, 0.3)}
    assert {name: (architecture(name).resolution, architecture(name).dropout_rate) for name in published} == published


def test_rounding_may_not_take_a_tenth_except_in_later_families():
    assert round_filters(16, 1.2) == 24  # 19.2 would round to 16, which is less than 90 %
    assert round_filters(16, 1.2, limit_rounding_loss=False) == 16
    assert round_filters(32, 1.1) == 32
    assert round_filters(4, 1.0) == 8
    assert round_repeats(3, 1.1) == 4


def test_b3_without_the_rounding_limit_has_the_parameters_of_the_later_code():
    family = dataclasses.replace(B0.family, limit_rounding_loss=False)
    later = scale_baseline(dataclasses.replace(B0, family=family), 1.2, 1.4, 300)
    assert count_architecture(later, 1000).params == 12_227_212


def test_only_the_first_block_of_a_stage_strides_and_only_equal_shapes_are_added():
    blocks = architecture("b1").blocks
    assert [block.strides for block in blocks if block.repeat == 0] == [1, 2, 2, 2, 1, 2, 1]
    assert {block.strides for block in blocks if block.repeat > 0} == {1}
    assert [block.skip for block in blocks] == [
        block.strides == 1 and block.input_filters == block.output_filters for block in blocks
    ]
    assert [block.skip for block in architecture("b0").blocks].count(True) == 9


def test_squeeze_width_follows_the_input_of_the_repeat():
    squeezes = [block.se_filters for block in architecture("b0").blocks]
    assert squeezes == [8, 4, 6, 6, 10, 10, 20, 20, 20, 28, 28, 28, 48, 48, 48, 48]
    assert {block.se_filters for block in architecture("lite2").blocks} == {0}


def test_survival_falls_linearly_over_all_blocks_of_b0():
    expected = [1, 0.9875, 0.975, 0.9625, 0.95, 0.9375, 0.925, 0.9125, 0.9, 0.8875, 0.875, 0.8625, 0.85, 0.8375]
    assert survival_probabilities(16, 0.8) == pytest.approx([*expected, 0.825, 0.8125])
    assert set(survival_probabilities(5, 1.0)) == {1.0}


def test_compound_scaling_gives_the_published_multipliers_before_rounding_by_hand():
    for variant, phi in (("b1", 0.5), ("b2", 1), ("b3", 2)):
        arch, row = compound_scale(B0, phi), VARIANTS[variant]
        assert arch.width == pytest.approx(row.width, abs=0.05)
        assert arch.depth == pytest.approx(row.depth, abs=0.05)
        assert arch.resolution == pytest.approx(row.resolution, abs=4)
    assert compound_scale(B0, 0).blocks == architecture("b0").blocks


def test_a_unit_of_phi_costs_about_twice():
    assert Coefficients().cost_ratio == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    assert Coefficients().cost_ratio == pytest.approx(2, rel=0.05)


def test_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'b9' is unknown.*b0, b1.*lite4.*mini0"):
        architecture("b9")
