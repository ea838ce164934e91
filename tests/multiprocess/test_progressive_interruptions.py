"""A progressive run that is killed ten times, at boundaries of stages too, and moves to more processes, keeps its bits."""

import itertools
import json
import shutil
import signal
from signal import SIGKILL, SIGTERM

import jax
import numpy as np
import pytest

from pipeline.data.loading.batches import train_batches
from pipeline.data.preparation.datasets import prepare_digits
from pipeline.data.sources import open_source
from tests.data.tiny import Noise
from tests.record_sums import record_sum
from tests.runs import TINIEST, reported, start_all, state_at, wait_until

STEPS, BATCH_SIZE = 60, 32
BOUNDARY = 30  # where the run moves
RUN = (
    f"--config={TINIEST}",
    f"--config.duration={STEPS} steps",
    "--config.progressive.stages=4",
    "--config.progressive.image_sizes=(8, 10, 12, 16)",
    "--config.progressive.dropout_rates=(0.0, 0.1, 0.2, 0.3)",
    "--config.image_size=16",
    "--config.evaluation.image_size=20",
    "--config.data.augment=randaugment",
    "--config.loss.mixup_alpha=0.2",
    "--config.loss.cutmix_alpha=0.4",
    "--config.loss.mix_semantics=published",
    "--config.log.every=1 steps",
    "--config.log.tensorboard=False",
    "--config.checkpoint.every=5 steps",
    "--config.checkpoint.keep=5",
    "--config.evaluation.every=30 steps",
)
# Signals, and what the run has said when it gets them, or how many steps it has reported since its start: after SIGTERM it
# saves a step that all processes have still before them, which is another one each time.
ON_ONE_PROCESS = (
    (SIGKILL, "Compiling the train step"),
    (SIGKILL, 7),
    (SIGTERM, "Stage 2 of 4"),
    (SIGKILL, 2),
    (SIGKILL, "Stage 3 of 4"),
    (SIGTERM, 2),
)
ON_TWO = (
    (SIGKILL, 13),
    (SIGTERM, "Stage 4 of 4"),
    (SIGKILL, 2),
    (SIGKILL, "Evaluating after step 60"),
)


def live(workdir, data_dir, processes, end=None):
    """Starts the run on four devices and returns what it says; None if it ended before the signal `end` reached it."""
    log = workdir / "output"
    started = start_all(
        [workdir] * processes, *RUN, f"--config.data.data_dir={data_dir}", devices=4 // processes, log=log
    )
    code = 0
    if end is not None:
        number, said = end
        wait_until(lambda: is_at(said, log.read_text()), started)
        code = -SIGKILL if number == SIGKILL else 75
        for process in started if number == SIGKILL else started[-1:]:
            process.send_signal(signal.Signals(number))
    codes = [process.wait(timeout=600) for process in started]
    if end is not None and codes == [0] * processes:
        return None
    assert codes == [code] * processes, log.read_text()
    return log.read_text()


def is_at(moment, said):
    """Returns whether a run has come to one of the moments above."""
    return said.count("\nstep ") >= moment if isinstance(moment, int) else moment in said


def interrupt(workdir, data_dir, processes, end):
    """Ends the run with a signal; a run that has ended before is put back to where it was, and begins again."""
    before = workdir.with_name("before")
    shutil.copytree(workdir, before)
    for _ in range(5):
        if live(workdir, data_dir, processes, end) is not None:
            break
        shutil.rmtree(workdir)
        shutil.copytree(before, workdir)
    else:
        pytest.fail(f"the run ended five times before {end} reached it")
    shutil.rmtree(before)


@pytest.mark.slow
def test_a_progressive_run_killed_ten_times_and_moved_equals_one_that_was_only_moved(tmp_path):
    prepare_digits(str(tmp_path / "data"))
    stayed, killed, moved = (tmp_path / name for name in ("stayed", "killed", "moved"))
    stayed.mkdir()
    killed.mkdir()
    said = live(stayed, tmp_path / "data", 1)
    assert "Stage 2 of 4, up to step 30: 10 px, RandAugment 6.67, mixup 0.0667, CutMix 0.133, dropout 0.1;" in said
    assert "Stage 4 of 4, up to step 60: 16 px, RandAugment 10, mixup 0.2, CutMix 0.4, dropout 0.3;" in said

    for end in ON_ONE_PROCESS:
        interrupt(killed, tmp_path / "data", 1, end)
    for checkpoint in (killed / "checkpoints").iterdir():  # so that it goes on exactly where a stage begins
        if not checkpoint.name.isdigit() or int(checkpoint.name) > BOUNDARY:
            shutil.rmtree(checkpoint)
    shutil.copytree(killed, moved)
    assert f"Continuing after step {BOUNDARY}." in live(moved, tmp_path / "data", 2)
    for end in ON_TWO:
        interrupt(killed, tmp_path / "data", 2, end)
    live(killed, tmp_path / "data", 2)

    jax.tree.map(np.testing.assert_array_equal, state_at(killed, STEPS), state_at(moved, STEPS))
    assert json.loads((killed / "results.json").read_text()) == json.loads((moved / "results.json").read_text())
    for key in ("records", "loss", "accuracy", "gradient_norm", "bad_images", "learning_rate"):
        assert reported(killed, "train", key) == reported(moved, "train", key)
    losses = {workdir: list(reported(workdir, "train", "loss").values()) for workdir in (killed, stayed)}
    assert losses[killed][:BOUNDARY] == losses[stayed][:BOUNDARY]
    np.testing.assert_allclose(losses[killed], losses[stayed], rtol=1e-5)  # two processes sum in another order
    assert reported(killed, "train", "records") == reported(stayed, "train", "records") == expected(tmp_path / "data")


def expected(data_dir):
    """Returns what the record must say of each step: a stage changes how images look and not which they are."""
    batches = train_batches(open_source("digits", "train", data_dir), Noise(), batch_size=BATCH_SIZE, seed=0)
    steps = enumerate(itertools.islice(batches, STEPS), start=1)
    sums = {step: f"{record_sum(batch['record'], step, BATCH_SIZE):08x}" for step, batch in steps}
    batches.close()
    return sums
