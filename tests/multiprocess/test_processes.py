"""Several real processes as one run: what they share, what they refuse, and what is left when one of them dies."""

import json
import os
import signal
import socket
import subprocess

import jax
import numpy as np
import pytest

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.runtime.reporting import read_events
from tests.runs import TINY, start, state_at, wait_for


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_all(workdirs, data_dir, devices, *overrides, per_process=()):
    """Starts one process for each work directory; `per_process` are further overrides of each."""
    port = free_port()
    return [
        start(
            f"--config={TINY}",
            f"--workdir={workdir}",
            f"--config.data.data_dir={data_dir}",
            f"--coordinator_address=localhost:{port}",
            f"--process_count={len(workdirs)}",
            f"--process_index={index}",
            *overrides,
            *(per_process[index] if per_process else ()),
            devices=devices,
        )
        for index, workdir in enumerate(workdirs)
    ]


def finish(processes):
    """Returns the exit codes and the outputs."""
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def losses(workdir):
    return [event["loss"] for event in read_events(str(workdir)) if event["event"] == "train"]


@pytest.mark.slow
def test_the_same_run_on_any_number_of_processes_and_its_continuation_on_fewer(tmp_path, data_dir):
    """1x8, 2x4 and 4x2 give the same losses; a run that 2x4 started goes on on 1x4 and ends with the same weights."""
    for processes, devices in ((1, 8), (2, 4), (4, 2)):
        workdir = tmp_path / f"{processes}x{devices}"
        codes, outputs = finish(start_all([workdir] * processes, data_dir, devices, "--config.log.every=1 steps"))
        assert codes == [0] * processes, "\n".join(outputs)
    reference = losses(tmp_path / "1x8")
    assert len(reference) == 12
    np.testing.assert_allclose(losses(tmp_path / "2x4"), reference, rtol=1e-5)
    np.testing.assert_allclose(losses(tmp_path / "4x2"), reference, rtol=1e-5)

    moved = tmp_path / "moved"
    processes = start_all([moved] * 2, data_dir, 4, "--config.log.every=1 steps")
    wait_for(processes[0], "step  3/12")
    processes[0].send_signal(signal.SIGTERM)  # one machine is warned; all of them save and leave
    codes, outputs = finish(processes)
    assert codes in ([75, 75], [0, 0]), "\n".join(outputs)
    codes, outputs = finish(start_all([moved], data_dir, 4, "--config.log.every=1 steps"))
    assert codes == [0], outputs[0]
    np.testing.assert_allclose(losses(moved), reference, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        state_at(moved, 12)["params"],
        state_at(tmp_path / "1x8", 12)["params"],
    )
    results = json.loads((moved / "results.json").read_text())
    assert results["evaluation"]["ema"]["examples"] == 360


@pytest.mark.slow
def test_processes_that_differ_or_do_not_share_the_work_directory_refuse_to_start(tmp_path, data_dir):
    processes = start_all([tmp_path / "a"] * 2, data_dir, 1, per_process=[[], ["--config.seed=1"]])
    codes, outputs = finish(processes)
    assert codes == [78, 78], "\n".join(outputs)
    assert all("{'configuration': [1]}" in output for output in outputs)

    codes, outputs = finish(start_all([tmp_path / "b", tmp_path / "c"], data_dir, 1))
    assert codes == [78, 78], "\n".join(outputs)
    assert all("is not shared: process(es) [1]" in output for output in outputs)


@pytest.mark.slow
def test_the_death_of_one_process_ends_the_others(tmp_path, data_dir):
    processes = start_all([tmp_path] * 2, data_dir, 2, "--config.duration=100000 steps", "--config.log.every=1 steps")
    wait_for(processes[0], "step      2/")
    os.kill(processes[1].pid, signal.SIGKILL)
    try:
        processes[0].communicate(timeout=120)
    except subprocess.TimeoutExpired:
        processes[0].kill()
        raise
    assert processes[0].returncode not in (0, 75)
    assert losses(tmp_path)  # what was reported is on disk
