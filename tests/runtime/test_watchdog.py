"""A start that hangs, wherever it does, says where and ends with the code that asks for a restart."""

import shutil

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests import forks
from tests.runs import TINIEST, run, xla_flags

HANG = """
import sys, threading
from pipeline import command, train
from pipeline.runtime import agreement, distributed, stopping, watchdog
from pipeline.training import loop
from pipeline.training.experiment import Experiment

begin, dogs = watchdog.Watchdog.__enter__, []

def enter(self):
    dogs.append(self)
    return begin(self)

def hang(*arguments, **options):
    dogs[0]._abort_seconds = 0.1  # only now: a slow machine is not a hang
    threading.Event().wait()

def hang_at_the_first_batch(self, passes):
    hang()
    yield

def hang_at_the_end(self):
    if dogs[0]._beat[0].startswith("waiting for the last"):
        hang()

watchdog.Watchdog.__enter__ = enter
"""
RUN = "\ncommand.run(train.main, sys.argv, leave=stopping.leave)"
PLACES = [  # what hangs, whether in a run that is continued, and what the message says of it
    ("distributed.check_platform = hang", False, "this process has been looking for the devices"),
    ("Experiment.from_config = hang", False, "process 0 has been opening the data"),
    ("agreement.check_same = hang", False, "process 0 has been comparing this start with those of the other processes"),
    ("Experiment.create_state = hang", False, "process 0 has been making the initial state"),
    ("Experiment.compile_train_step = hang", False, "process 0 has been compiling the train step"),
    ("loop.Checkpoints.restore_newest = hang", True, "process 0 has been restoring the newest checkpoint"),
    ("Experiment.eval_batches = hang_at_the_first_batch", True, "process 0 has been in the evaluation at step 12"),
    (
        "loop.Checkpoints.wait = hang_at_the_end",
        True,
        "process 0 has been waiting for the last checkpoint to be written",
    ),
    ("loop.Checkpoints.__exit__ = hang", True, "process 0 has been writing the results"),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.fixture(scope="module")
def unevaluated(tmp_path_factory, data_dir):
    """A run that took all its steps and was killed before its last evaluation."""
    workdir = tmp_path_factory.mktemp("run")
    code, output = run(f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}")
    assert code == 0, output
    (workdir / "results.json").unlink()
    record = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(line for line in record if '"evaluation", "step": 12' not in line))
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(("hang", "continued", "message"), PLACES, ids=[place for place, _, _ in PLACES])
def test_a_hang_ends_with_a_message(hang, continued, message, tmp_path, data_dir, unevaluated):
    workdir = tmp_path / "run"
    if continued:
        shutil.copytree(unevaluated, workdir)
    process = forks.run(
        *("-c", HANG + hang + RUN, f"--config={TINIEST}", f"--workdir={workdir}"),
        *(f"--config.data.data_dir={data_dir}", "--config.watchdog.warn_seconds=4"),
        XLA_FLAGS=xla_flags(devices=4),
    )
    assert process.returncode == 71, process.stderr
    (last,) = [line for line in process.stderr.splitlines() if "ending it. The same command continues the run" in line]
    assert last.startswith(f"Watchdog: {message} for "), process.stderr
