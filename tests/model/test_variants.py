"""The language of `config.model.variant`: the published sizes said in it, and one clear line for what it cannot say."""

import math

import pytest

from pipeline.errors import ConfigError
from pipeline.model.counting import count_architecture
from pipeline.model.families import VARIANTS
from pipeline.model.families.efficientnet import B0
from pipeline.model.scaling import architecture, compound_scale
from pipeline.model.variants import Coefficients, ScaledVariant

# tensorflow/tpu, efficientnet_builder.py: width, depth, pixels.
PUBLISHED = {
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_the_published_rows_come_out_of_any_way_to_say_them(row):
    width, depth, pixels = PUBLISHED[row]
    published = architecture(row)
    ways = [
        compound_scale(B0, 1, Coefficients(depth, width, pixels / 224)),
        # In three steps of phi, whose powers are the published figures only up to rounding errors.
        compound_scale(B0, 3, Coefficients(depth ** (1 / 3), width ** (1 / 3), (pixels / 224) ** (1 / 3))),
        architecture(f"b0:width={width},depth={depth},resolution={pixels}"),
        architecture(f"b0:phi=2,alpha={math.sqrt(depth)!r},beta={math.sqrt(width)!r},resolution={pixels}"),
    ]
    for scaled in ways:
        assert scaled.blocks == published.blocks
        assert (scaled.stem_filters, scaled.head_filters, scaled.resolution) == (
            published.stem_filters,
            published.head_filters,
            published.resolution,
        )


@pytest.mark.parametrize(("row", "phi"), [("b1", 0.5), ("b2", 1), ("b3", 2)])
def test_the_published_coefficients_round_to_the_published_rows(row, phi):
    scaled, (width, depth, pixels) = architecture(f"b0:phi={phi}"), PUBLISHED[row]
    assert (round(scaled.width, 1), round(scaled.depth, 1)) == (width, depth)
    assert scaled.resolution == pytest.approx(pixels, abs=4)


@pytest.mark.parametrize(
    ("text", "params", "million_macs"),
    [  # counted from arXiv 1905.11946, table 3
        ("mobilenet_v1:depth=1.4,width=1.2,resolution=288", 8_677_512, 2_240),
        ("mobilenet_v2:width=2", 11_258_088, 1_137),
        ("mobilenet_v2:phi=1,alpha=1.4,beta=1.2,gamma=1.3", 7_987_552, 1_440),
        ("resnet50:depth=4", 89_824_040, 14_570),
    ],
)
def test_any_family_scales(text, params, million_macs):
    count = count_architecture(architecture(text), 1000)
    assert count.params == params
    assert count.macs / 1e6 == pytest.approx(million_macs, rel=0.005)


def test_multipliers_count_from_the_row():
    assert architecture("b2:width=1,depth=1").blocks == architecture("b2").blocks
    assert architecture("b1:phi=1").depth == pytest.approx(1.1 * 1.2)
    assert architecture("b1:phi=1").resolution == round(240 * 1.15)
    assert architecture("b1:depth=2").dropout_rate == VARIANTS["b1"].dropout_rate


@pytest.mark.parametrize("text", ["b0", "b0:depth=1.2", "mini0:depth=1.414213562,width=0.5,resolution=20"])
def test_what_is_written_is_what_was_read(text):
    assert str(ScaledVariant.parse(text)) == text
    assert ScaledVariant.parse(text).scaled() == ScaledVariant.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b9:phi=1", "is unknown; the variants are b0, b1"),
        ("b0:", "'' is not one of phi, alpha"),
        (
            "b0:phi=1,alfa=1.2",
            "'alfa' is not one of phi, alpha, beta, gamma, depth, width, resolution; write NAME:phi=2",
        ),
        ("b0:phi", "phi='' is not a number"),
        ("b0:phi=nan", "phi='nan' is not a number"),
        ("b0:phi=1,phi=2", "phi is given twice"),
        ("b0:alpha=1.2", "alpha is given without phi"),
        ("b0:phi=1,depth=2", "depth follows from phi"),
        ("b0:phi=1,alpha=0", "positive coefficients"),
        ("b0:phi=1,beta=-1", "positive coefficients"),
        ("b0:phi=40", "alpha=1.2 to the power of phi=40 is not a multiplier from 0.01 to 100"),
        ("b0:phi=1e999", "positive coefficients"),
        ("b0:width=1000", "width=1000 is not a multiplier from 0.01 to 100"),
        ("b0:resolution=4", "resolution=4 is not a whole number of pixels from 8 to 4,096"),
        ("b0:resolution=224.5", "resolution=224.5 is not a whole number of pixels"),
        ("b0:resolution=1e999", "resolution=inf is not a whole number of pixels"),
        ("b0:phi=14,gamma=1.3,alpha=1,beta=1", "not a whole number of pixels from 8 to 4,096"),
        ("b0:width=" + "1" * 1000, "is unknown"),
    ],
)
def test_what_cannot_be_is_one_line(text, said):
    with pytest.raises(ConfigError) as error:
        architecture(text)
    assert said in str(error.value)
    assert str(error.value).startswith(f"model variant '{text[:20]}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
