"""A start that hangs, wherever it does, says where and ends with the code that asks for a restart.

A process that stood still does not hang.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests import forks
from tests.runs import TINIEST, run, start, wait_for, xla_flags

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


def test_a_hang_ends_although_nobody_reads_the_output():
    """As in a terminal that was closed."""
    code = """
import threading
from pipeline.runtime.watchdog import Watchdog
with Watchdog(warn_seconds=0.1, abort_seconds=1.0) as watchdog:
    threading.Event().wait()
"""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=forks.ROOT, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        assert process.wait(timeout=60) == 71
    finally:
        process.kill()


def stand_still(process, seconds: float) -> None:
    """Stops a process, as Ctrl-Z does, and lets it go on."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)  # what is tested is that time passes
    process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_run_alone_that_stood_still_goes_on(tmp_path, data_dir):
    """JAX would take it for a lost peer of itself."""
    process = start(
        *(f"--config={TINIEST}", f"--workdir={tmp_path / 'run'}", f"--config.data.data_dir={data_dir}"),
        "--config.watchdog.peer_seconds=2",
    )
    wait_for(process, "Compiling the train step")
    stand_still(process, seconds=6)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def test_a_process_that_stood_still_does_not_hang():
    code = """
import time
from pipeline.runtime.watchdog import Watchdog
with Watchdog(warn_seconds=0, abort_seconds=4) as watchdog:
    watchdog.beat("waiting for a line")
    print("beaten", flush=True)
    input()
    time.sleep(1.5)  # the watchdog looks every second
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout.readline() == "beaten\n"
    stand_still(process, seconds=5)
    output, _ = process.communicate("\n", timeout=600)
    assert process.returncode == 0, output
