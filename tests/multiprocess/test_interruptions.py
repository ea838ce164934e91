"""A run that is killed at twenty moments ends with the bits of one that was left alone."""

import itertools
import json
import pathlib
import random
import signal
import subprocess

import jax
import numpy as np
import pytest

from pipeline.data.loading.batches import train_batches
from pipeline.data.preparation.datasets import prepare_digits
from pipeline.data.sources import open_source
from tests.data.tiny import Noise
from tests.record_sums import record_sum
from tests.runs import TINIEST, reported, start_all, state_at, wait_until

STEPS = 200
BATCH_SIZE = 32
SEED = 4
RUN = (
    f"--config={TINIEST}",
    f"--config.duration={STEPS} steps",
    "--config.data.augment=autoaugment_v0",
    "--config.model.survival_probability=0.8",
    "--config.loss.mixup_alpha=0.2",
    "--config.log.every=1 steps",
    "--config.log.tensorboard=False",  # importing TensorFlow would take half of each start
    "--config.checkpoint.every=10 steps",
    "--config.evaluation.every=40 steps",
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


class Life:
    """One start of the run, up to the moment at which it is killed."""

    def __init__(self, workdir: pathlib.Path, processes: int, devices: int, data_dir, **environment: str):
        self._workdir = workdir
        self._partial_before = self._partial_checkpoints()
        log = workdir / "output"
        self.processes = start_all(
            [workdir] * processes, *RUN, f"--config.data.data_dir={data_dir}", devices=devices, log=log, **environment
        )
        self._log = log.open()
        self.output = ""

    def reach(self, moment: str) -> bool:
        """Waits for "compiling", "checkpointing", "evaluating", "last step" or a number of steps; False if it ended before."""
        return wait_until(lambda: self._is_at(moment), self.processes)

    def kill(self, number: signal.Signals, rng: random.Random) -> list[int]:
        """Kills all processes, or asks one of them to stop, and returns the exit codes."""
        for process in self.processes if number == signal.SIGKILL else [rng.choice(self.processes)]:
            process.send_signal(number)
        return self.end()

    def end(self) -> list[int]:
        """Waits for the end and returns the exit codes."""
        try:
            codes = [process.wait(timeout=600) for process in self.processes]
        except subprocess.TimeoutExpired:
            for process in self.processes:
                process.kill()
            raise
        self.output += self._log.read()
        return codes

    def _is_at(self, moment: str) -> bool:
        self.output += self._log.read()
        if moment == "compiling":
            return "Compiling the train step" in self.output
        if moment == "checkpointing":
            return self._partial_checkpoints() != self._partial_before
        if moment == "evaluating":
            return "Evaluating after step" in self.output
        if moment == "last step":
            return f"step {STEPS}/{STEPS}" in self.output
        return self.output.count("\nstep ") >= int(moment)

    def _partial_checkpoints(self) -> dict[str, int]:
        found = (self._workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")
        try:
            return {path.name: path.stat().st_mtime_ns for path in found}
        except FileNotFoundError:  # it has become a checkpoint just now
            return {}


def moments(rng: random.Random) -> list[tuple[signal.Signals, str]]:
    """Ten moments for each signal, in turns: four kinds that are always among them, and random numbers of steps."""
    by_signal = []
    for number in SIGNALS:
        ones = ["compiling", "checkpointing", "evaluating", *(str(rng.randint(1, 8)) for _ in range(6))]
        rng.shuffle(ones)
        by_signal.append([(number, moment) for moment in [*ones, "last step"]])
    return list(itertools.chain(*zip(*by_signal)))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 2)])
def test_a_run_killed_twenty_times_equals_an_undisturbed_one(tmp_path, data_dir, processes, devices):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for workdir in (undisturbed, killed):
        workdir.mkdir()
    life = Life(undisturbed, processes, devices, data_dir)
    assert life.end() == [0] * processes, life.output

    rng = random.Random(SEED)
    for number, moment in moments(rng):
        cold = number == signal.SIGTERM and moment == "compiling"
        life = Life(killed, processes, devices, data_dir, **({"JAX_COMPILATION_CACHE_DIR": ""} if cold else {}))
        context = f"seed {SEED}, {number.name} at {moment!r}:\n"
        assert life.reach(moment), context + life.output
        codes = life.kill(number, rng)
        if number == signal.SIGKILL:
            assert codes == [-signal.SIGKILL] * processes, context + life.output
        elif moment == "last step":
            assert codes in ([0] * processes, [75] * processes), context + life.output
        else:
            assert codes == [75] * processes, context + life.output
            assert "the same command continues" in life.output
        if cold:
            assert "Compiled" not in life.output  # nobody waited for it
    life = Life(killed, processes, devices, data_dir)
    assert life.end() == [0] * processes, life.output

    jax.tree.map(np.testing.assert_array_equal, state_at(killed, STEPS), state_at(undisturbed, STEPS))
    for key in ("records", "loss", "accuracy", "gradient_norm", "bad_images", "learning_rate"):
        assert reported(killed, "train", key) == reported(undisturbed, "train", key)
    assert list(reported(killed, "train", "records")) == list(range(1, STEPS + 1))
    assert reported(killed, "train", "records") == expected_records(data_dir)
    for weights, metric in itertools.product(("ema", "raw"), ("top1", "top5", "loss", "examples")):
        key = f"{weights}_{metric}"
        assert reported(killed, "evaluation", key) == reported(undisturbed, "evaluation", key)
    assert list(reported(killed, "evaluation", "ema_top1")) == list(range(40, STEPS + 1, 40))
    assert list(reported(killed, "summary", "seconds")) == [STEPS]
    results = [json.loads((workdir / "results.json").read_text()) for workdir in (killed, undisturbed)]
    assert results[0] == results[1]
    best = [sorted(path.name for path in (workdir / "best").iterdir()) for workdir in (killed, undisturbed)]
    assert best[0] == best[1]


def expected_records(data_dir) -> dict[int, str]:
    """Returns what the record must say of each step, from the batches themselves."""
    batches = train_batches(open_source("digits", "train", data_dir), Noise(), batch_size=BATCH_SIZE, seed=0)
    steps = enumerate(itertools.islice(batches, STEPS), start=1)
    sums = {step: f"{record_sum(batch['record'], step, BATCH_SIZE):08x}" for step, batch in steps}
    batches.close()
    return sums
