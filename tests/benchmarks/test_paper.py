"""The paper's tables: counts against an independent counter's, published ratios met, swapped rows named."""

import pytest

from pipeline.benchmarks import paper

# Parameters and thousand millions of multiply-adds of tables 3 and 7, from a layer counter outside this project. It rounded
# ResNet's inner widths by itself, so of the compound row there are only three digits.
COUNTED = {
    "mobilenet_v1": (4_231_976, 0.569),
    "mobilenet_v1:width=2": (14_742_120, 2.216),
    "mobilenet_v1:resolution=448": (4_231_976, 2.272),
    "mobilenet_v1:depth=1.4,width=1.2,resolution=291": (8_677_512, 2.47),
    "mobilenet_v2": (3_504_872, 0.301),
    "mobilenet_v2:depth=4": (12_051_800, 1.22),
    "mobilenet_v2:width=2": (11_258_088, 1.137),
    "mobilenet_v2:resolution=448": (3_504_872, 1.199),
    "mobilenet_v2:depth=1.4,width=1.2,resolution=291": (7_987_552, 1.44),
    "resnet50": (25_557_032, 4.09),
    "resnet50:depth=4": (89_824_040, 14.57),
    "resnet50:width=2": (98_004_072, 16.12),
    "resnet50:resolution=448": (25_557_032, 16.35),
    "resnet50:depth=1.4,width=1.2,resolution=291": (54.9e6, 15.88),
    "b0": (5_288_548, 0.386),
    "b0:depth=4": (20_091_856, 1.575),
    "b0:width=2": (18_122_720, 1.450),
    "b0:resolution=448": (5_288_548, 1.538),
    "b0:depth=1.4,width=1.2,resolution=300": (12_233_232, 1.827),
}


def test_rows_are_those_of_the_paper_with_the_independent_counts():
    rows = [*paper.TABLE_3, *paper.TABLE_7]
    assert [row.variant for row in rows] == list(COUNTED)
    for row in rows:
        params, billions = COUNTED[row.variant]
        count = paper.counted(row.variant)
        assert count.macs / 1e9 == pytest.approx(billions, rel=0.005)
        assert count.params == (params if isinstance(params, int) else pytest.approx(params, rel=0.005))


def test_counts_meet_the_published_ones_but_for_the_rows_that_say_why():
    for row in paper.TABLE_3:
        if "not in the paper" not in row.note and "swapped" not in row.note:
            assert paper.counted(row.variant).macs / 1e9 == pytest.approx(row.billions, rel=0.1)
    swapped = [row for row in paper.TABLE_3 if "swapped" in row.note]
    assert [row.setting for row in swapped] == ["depth 4", "width 2"]
    counted = [paper.counted(row.variant).macs / 1e9 for row in swapped]
    assert counted == pytest.approx([row.billions for row in reversed(swapped)], rel=0.01)
    assert counted != pytest.approx([row.billions for row in swapped], rel=0.05)


def test_ratios_of_the_networks_that_are_here_are_the_published_ones():
    for row in paper.TABLE_2:
        ours = paper.counted(row.efficientnet)
        params = paper.counted(row.variant).params if row.variant else 1e6 * row.millions
        assert params / ours.params == pytest.approx(row.params_times, rel=0.05)
        if row.macs_times is not None:
            macs = paper.counted(row.variant).macs if row.variant else 1e9 * row.billions
            assert macs / ours.macs == pytest.approx(row.macs_times, rel=0.06)
    for variant, (millions, billions, _) in paper.TABLE_2_SIZES.items():
        count = paper.counted(variant)
        assert count.params / 1e6 == pytest.approx(millions, rel=0.02)
        assert count.macs / 1e9 == pytest.approx(billions, rel=0.05)


def test_the_printed_tables_have_both():
    text = paper.tables()
    assert "89,824,040" in text
    assert "swapped in the paper: 14.7 belongs to this row" in text
    assert all(line == line.rstrip() for line in text.splitlines())
