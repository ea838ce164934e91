"""The compiler's text, added up by hand."""

import pathlib

import pytest

from pipeline.planning import hlo

PROGRAM = (pathlib.Path(__file__).parent / "program.hlo").read_text()  # by hand, in the form of XLA:TPU


def test_cycles_are_those_of_scheduled_instructions_by_kind():
    summary = hlo.summarize(PROGRAM)
    assert summary.cycles_by_kind == {
        "matrix": 1000,
        "depthwise": 400,
        "batch_norm": 200,
        "layout": 100,
        "elementwise": 3 * 10,  # the loop's body, as often as it turns
    }
    assert summary.cycles == 1730  # the 7 inside a fusion are the fusion's


def test_a_depthwise_convolution_in_blocks_is_one_all_the_same():
    in_blocks = PROGRAM.replace("jit(step)/depthwise_conv", "jit(step)/depthwise_conv/cond/conv_general_dilated")
    in_blocks = in_blocks.replace("EmitDepthwise", "EmitAllBatchInSublanes")
    assert in_blocks.count("conv_general_dilated") == 1
    assert hlo.summarize(in_blocks).cycles_by_kind == hlo.summarize(PROGRAM).cycles_by_kind


def test_collectives_are_counted_with_their_bytes():
    summary = hlo.summarize(PROGRAM)
    assert summary.collectives == {"all-reduce": 1}
    assert summary.collective_bytes == 2 * 64 * 4


def test_the_largest_arrays_are_named_by_where_they_come_from():
    (first, size), *_ = hlo.summarize(PROGRAM).largest
    assert "block/expand_conv" in first or "depthwise_conv" in first
    assert size == 8 * 16 * 16 * 64 * 2


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.summarize("HloModule nothing\n")
