"""The measurement of reading from a bucket, beside a copy: what it asks the bucket for, and what the command prints."""

import re
import tempfile

import pytest

from pipeline.benchmarks import reading
from pipeline.data.preparation.datasets import prepare_digits
from pipeline.data.sources import open_source
from pipeline.errors import MachineError
from tests import forks
from tests.runs import TINIEST

IMAGES = 20
QUICKLY = """
import runpy, sys
from pipeline.benchmarks import input as input_benchmark
input_benchmark._RATE_SECONDS = 0
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], None, "__main__")
"""


@pytest.fixture(scope="module")
def data_dir(running_server):
    prepare_digits("gs://bucket/data")
    return "gs://bucket/data"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_bucket_is_read_for_its_own_rounds_and_for_one_copy(server, data_dir, temporary):
    source = open_source("digits", "train+test", data_dir)
    with server.counted() as counts:
        costs, bytes_per_second = reading.measure_reading(source, IMAGES)
    shards = len(source.shards)
    # A record is one read, and so are the two ends of a shard when it is opened, once for all rounds.
    reads = counts["array_record", "read"]
    rounds = reading._ROUNDS * (IMAGES + shards)
    assert rounds <= reads <= rounds + 4 * shards
    assert counts["tensorstore", "read"] == shards
    assert [cost.place for cost in costs] == ["where they are", "copied to this machine"]
    assert all(cost.cpu_seconds > 0 and cost.images_per_second > 0 for cost in costs)
    assert bytes_per_second > 0
    assert list(temporary.iterdir()) == []


def test_only_as_much_is_copied_as_a_sample_needs(server, data_dir, temporary, monkeypatch):
    monkeypatch.setattr(reading, "_SAMPLE_BYTES", 1)
    source = open_source("digits", "train+test", data_dir)
    with server.counted() as counts:
        reading.measure_reading(source, IMAGES)
    assert counts["tensorstore", "read"] == 1


def test_a_copy_that_fails_is_one_error_and_leaves_nothing(server, data_dir, temporary, monkeypatch):
    monkeypatch.setattr(reading.transfer, "pieces", lambda file: iter([b"other bytes"]))
    with pytest.raises(MachineError, match="the copy could not be made"):
        reading.measure_reading(open_source("digits", "train", data_dir), IMAGES)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_the_command_prints_both_places(server, data_dir):
    result = forks.run(
        *("-c", QUICKLY, "pipeline.benchmark", "input", f"--config={TINIEST}"),
        *(f"--config.data.data_dir={data_dir}", "--images=64"),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for place in ("where they are", "copied to this machine"):
        (costs,) = re.findall(rf"^{place} +([\d.]+) +([\d,]+)$", result.stdout, re.MULTILINE)
        assert float(costs[0]) > 0
    assert "copying (config.data.stage):" in result.stdout
    assert "disk to batch, in one process" in result.stdout
