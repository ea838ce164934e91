"""Latencies: each network in turn, in every format, on the cores that were asked for."""

import os

import numpy as np
import pytest

from pipeline.benchmarks import formats, latency
from pipeline.errors import MachineError
from pipeline.weights import directory
from tests.weights.samples import random_weights


def test_forward_passes_take_turns():
    calls = []
    forwards = {name: lambda images, name=name: calls.append((name, len(images))) for name in ("one", "two")}
    images = {"one": np.zeros((1, 2, 2, 3), np.uint8), "two": np.zeros((32, 2, 2, 3), np.uint8)}
    measured = latency.in_turns(forwards, images, rounds=3)
    assert calls == [("one", 1), ("two", 32)] * (latency.WARM_UP + 3)
    assert set(measured) == {"one", "two"}
    assert all(each.wall > 0 and each.cpu >= 0 for each in measured.values())


def test_the_report_divides_by_the_batch_and_puts_the_fastest_first():
    measured = {
        (file, batch, cores): latency.Latency(wall=seconds * batch, cpu=2 * seconds * batch)
        for file, seconds in (("slow", 0.02), ("fast", 0.005))
        for batch in formats.BATCHES
        for cores in (1, None)
    }
    lines = formats.report(measured).splitlines()
    assert lines[1].split() == ["fast", *("5.00", "(10.00)") * 4]
    assert lines[2].split() == ["slow", *("20.00", "(40.00)") * 4]


def test_the_ratio_of_table_4_is_that_of_each_run():
    runs = [
        {"resnet152": latency.Latency(each, 1.0), "b1": latency.Latency(1.0, 0.25), "b7": latency.Latency(9.0, 9.0)}
        for each in (5.0, 6.0, 7.0)
    ]
    lines = formats.report_table_4({"onnx": runs}).splitlines()
    assert lines[1].split()[-4:] == ["5.00,", "6.00,", "7.00", "6.00"]
    assert lines[2].split()[-4:] == ["4.00,", "4.00,", "4.00", "4.00"]
    assert lines[3].split()[-4:] == ["554", "98", "3100", "5.7"]


@pytest.mark.slow
def test_a_process_of_its_own_measures_an_export(tmp_path):
    weights = random_weights("mini0", num_classes=3, image_size=16)
    for name in ("weights", "onnx"):
        formats._write(weights, name, tmp_path / "mini", np.zeros((0, 1, 1, 3), np.uint8))
    (found,) = latency.on_cores(1, ["onnx", "2", "4", str(tmp_path / "mini")]).items()
    assert found[0] == "mini/model.onnx"
    assert found[1].wall > 0
    assert directory.read(tmp_path / "mini" / "weights").metadata.variant == "mini0"
    with pytest.raises(MachineError, match=r"the measuring process ended with 1 and said: .*nowhere"):
        latency.on_cores(1, ["onnx", "2", "4", str(tmp_path / "nowhere")])


def test_untrained_weights_are_those_of_the_network():
    weights = formats.untrained("mini0")
    assert set(weights.arrays) == {tensor.path for tensor in weights.metadata.table}
    assert all(np.isfinite(array).all() for array in weights.arrays.values())
    assert str(len(os.sched_getaffinity(0))) in latency.processor()
