"""Several real processes as one run: what they share, what they refuse, and what is left when one of them dies."""

import json
import os
import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests.runs import TINIEST, finish, reported, start_all, state_at, wait_for


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.fixture
def start_run(data_dir):
    """Starts the tiniest run, one process for each work directory."""

    def start_run(workdirs, *arguments, **options):
        common = (f"--config={TINIEST}", f"--config.data.data_dir={data_dir}", "--config.log.tensorboard=False")
        return start_all(workdirs, *common, *arguments, **options)

    return start_run


@pytest.mark.slow
def test_the_same_run_on_any_number_of_processes_and_its_continuation_on_fewer(tmp_path, start_run):
    """1x8, 2x4 and 4x2 have the same batches and losses; what 2x4 began goes on on 1x4 and on 1x8."""
    steps = 50
    arguments = (f"--config.duration={steps} steps", "--config.log.every=1 steps", "--config.checkpoint.every=25 steps")
    arguments += ("--config.evaluation.every=50 steps",)

    def go(workdir, processes, devices):
        codes, outputs = finish(start_run([workdir] * processes, *arguments, devices=devices))
        assert codes == [0] * processes, "\n".join(outputs)
        return outputs[0]

    workdirs = {(1, 8): tmp_path / "1x8", (2, 4): tmp_path / "2x4", (4, 2): tmp_path / "4x2"}
    for (processes, devices), workdir in workdirs.items():
        go(workdir, processes, devices)
    for devices in (4, 8):
        moved = workdirs["moved to", devices] = tmp_path / f"moved to 1x{devices}"
        shutil.copytree(workdirs[2, 4] / "checkpoints" / "25", moved / "checkpoints" / "25")
        shutil.copy(workdirs[2, 4] / "metrics.jsonl", moved)
        assert "Continuing after step 25." in go(moved, 1, devices)

    reference = workdirs.pop((1, 8))
    losses, records = (reported(reference, "train", key) for key in ("loss", "records"))
    assert list(losses) == list(range(1, steps + 1))
    for workdir in workdirs.values():
        assert reported(workdir, "train", "records") == records
        found = reported(workdir, "train", "loss")
        np.testing.assert_allclose([found[step] for step in losses], list(losses.values()), rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            state_at(workdir, steps)["params"],
            state_at(reference, steps)["params"],
        )


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "process_counts"), [(103, (1, 2, 3)), (5, (1, 4))])
def test_an_evaluation_counts_every_example_once_on_any_number_of_processes(
    examples, process_counts, tmp_path, start_run
):
    """Also where the batch of 16 is no multiple of the processes, and where some of them have no example at all."""
    results = []
    for count in process_counts:
        workdir = tmp_path / str(count)
        arguments = (
            *(f"--config.data.eval_split=test[:{examples}]", "--config.evaluation.batch_size=16"),
            *("--config.duration=1 steps", "--config.schedule.warmup=0 steps", "--config.batch_size=24"),
            "--config.model.bn_batch=24",
        )
        codes, outputs = finish(start_run([workdir] * count, *arguments, devices=1))
        assert codes == [0] * count, "\n".join(outputs)
        results.append(json.loads((workdir / "results.json").read_text())["evaluation"])
    for weights in ("ema", "raw"):
        for result in results:
            assert result[weights]["examples"] == examples
            assert [result[weights][key] for key in ("top1", "top5")] == [
                results[0][weights][k] for k in ("top1", "top5")
            ]
            assert result[weights]["loss"] == pytest.approx(results[0][weights]["loss"], rel=1e-5)


@pytest.mark.slow
def test_processes_that_differ_or_do_not_share_the_work_directory_refuse_to_start(tmp_path, start_run):
    codes, outputs = finish(start_run([tmp_path / "a"] * 2, devices=1, per_process=[[], ["--config.seed=1"]]))
    assert codes == [78, 78], "\n".join(outputs)
    assert all("{'configuration': [1]}" in output for output in outputs)

    codes, outputs = finish(start_run([tmp_path / "b", tmp_path / "c"], devices=1))
    assert codes == [78, 78], "\n".join(outputs)
    assert all("is not shared: process(es) [1]" in output for output in outputs)


@pytest.mark.slow
def test_the_death_of_one_process_ends_the_others(tmp_path, start_run):
    arguments = ("--config.duration=100000 steps", "--config.log.every=1 steps", "--config.watchdog.peer_seconds=10")
    processes = start_run([tmp_path] * 2, *arguments, devices=2)
    wait_for(processes[0], "step      2/")
    os.kill(processes[1].pid, signal.SIGKILL)
    try:
        processes[0].communicate(timeout=120)
    except subprocess.TimeoutExpired:
        processes[0].kill()
        raise
    assert processes[0].returncode not in (0, 75)
    assert reported(tmp_path, "train", "loss")  # what was reported is on disk
