"""Two starts of a run in one directory: the second is refused, and a killed one does not stand in the way."""

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.reporting.reporter import read_events
from tests.runs import TINIEST, finish, run, start, start_all, wait_until


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.mark.slow
def test_a_second_start_is_refused_and_a_killed_one_continues(tmp_path, data_dir):
    workdir = tmp_path / "run"
    arguments = (
        *(f"--config={TINIEST}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}"),
        *("--config.data.workers=1", "--config.log.tensorboard=False", "--config.log.every=1 steps"),
        *("--config.schedule.name=constant", "--config.evaluation.every=100000 steps"),
    )
    without_end = "--config.duration=1000000 steps"
    first = start(*arguments, without_end, log=tmp_path / "first")
    try:
        assert wait_until(lambda: any(workdir.glob("checkpoints/[0-9]")), [first])
        for seed in (0, 1):  # the same run, and another one
            code, output = run(*arguments, without_end, f"--config.seed={seed}")
            assert code == 78, output
            assert f"Error: {workdir} is in use by process {first.pid} on " in output.splitlines()[-1]
        before = (workdir / "metrics.jsonl").stat().st_size
        assert wait_until(lambda: (workdir / "metrics.jsonl").stat().st_size > before, [first])
    finally:
        first.kill()  # its worker is still there for a moment
        first.wait()
    newest = max(int(path.name) for path in workdir.glob("checkpoints/*[0-9]"))
    code, output = run(*arguments, f"--config.duration={newest + 3} steps")
    assert code == 0, output
    assert f"Continuing after step {newest}" in output
    steps = [event["step"] for event in read_events(str(workdir)) if event["event"] == "train"]
    assert steps == list(range(1, newest + 4))
    assert not list(workdir.glob("*.lock"))


@pytest.mark.slow
def test_all_processes_of_a_refused_start_end_with_the_refusal(tmp_path, data_dir):
    arguments = (f"--config={TINIEST}", f"--config.data.data_dir={data_dir}", "--config.duration=1000000 steps")
    first = start(f"--workdir={tmp_path}", *arguments, log=tmp_path / "first")
    try:
        assert wait_until(lambda: any(tmp_path.glob("checkpoints/[0-9]")), [first])
        codes, outputs = finish(start_all([tmp_path] * 2, *arguments, devices=2))
    finally:
        first.kill()
        first.wait()
    assert codes == [78, 78], "\n".join(outputs)
    assert f"in use by process {first.pid} on" in outputs[0]
    assert "the log of process 0 has the reason" in outputs[1]
