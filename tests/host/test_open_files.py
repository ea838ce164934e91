"""A dataset with more shards than a process may open: the limit is raised, or one line says why not."""

import resource
import subprocess
import sys

import pytest

from pipeline.data.preparation import datasets, shards
from pipeline.data.sources import CONTENTS_FILE, Source
from pipeline.errors import ConfigError
from pipeline.host import open_files
from tests.runs import ROOT, TINIEST, start

SHARDS = 1099


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Digits in 1,099 shards for training; prepared but for the last check."""
    data_dir = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_BYTES", 170)  # 1,437 digits of 130 bytes
        patch.setattr(datasets.checking, "check_dataset", lambda directory: None)
        directory = datasets.prepare_digits(str(data_dir))
    assert len(list(directory.glob("digits-train.array_record*"))) == SHARDS
    return data_dir


def test_a_preparation_holds_one_shard_open_at_a_time(data_dir):
    """Also where the hard limit is far below the number of shards."""
    command = ["bash", "-c", 'ulimit -n 128; exec "$0" "$@"', sys.executable]
    command += ["-m", "pipeline.prepare", "--dataset=digits", f"--data_dir={data_dir}"]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    assert (data_dir / "digits/1.0.0" / CONTENTS_FILE).exists()
    assert len(Source(str(data_dir / "digits/1.0.0"), "train")) == 1437


ARGUMENTS = ("--config=" + TINIEST, "--config.duration=100 steps", "--config.log.tensorboard=False")
ARGUMENTS += ("--config.evaluation.every=100 steps", "--config.checkpoint.every=100 steps")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_raises_the_usual_limit(data_dir, tmp_path, workers):
    """After 45 steps of 32 images it has had every shard open."""
    process = start(
        *ARGUMENTS,
        *(f"--workdir={tmp_path}/run", f"--config.data.data_dir={data_dir}", f"--config.data.workers={workers}"),
        prefix=("bash", "-c", 'ulimit -Sn 1024; exec "$0" "$@"'),
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def test_a_run_that_may_not_open_all_shards_is_one_line(data_dir, tmp_path):
    process = start(
        *(*ARGUMENTS, f"--workdir={tmp_path}/run", f"--config.data.data_dir={data_dir}"),
        prefix=("bash", "-c", 'ulimit -n 1024; exec "$0" "$@"'),
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 78, output
    assert "Traceback" not in output
    assert "needs 1,099 open files" in output.splitlines()[-1]
    assert "the limit of this process is 1,024" in output.splitlines()[-1]


def test_readers_count_together_and_as_long_as_they_live():
    class Reader:
        pass

    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
    first, second = Reader(), Reader()
    open_files.make_room(first, limit // 2, "the first")
    with pytest.raises(ConfigError, match="the second needs"):
        open_files.make_room(second, limit // 2, "the second")
    del first
    open_files.make_room(second, limit // 2, "the second")
