"""What becomes of a run whose directory is changed under it: one error, the right code, and an end without delay."""

import pathlib

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests.runs import TINIEST, start, start_all, wait_until

A_MINUTE = 60  # of the 302 seconds for which such a process once stayed alive


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


def without_end(data_dir: pathlib.Path) -> tuple[str, ...]:
    """The arguments of a run that saves every 20 steps."""
    return (
        *(f"--config={TINIEST}", f"--config.data.data_dir={data_dir}", "--config.duration=1000000 steps"),
        *("--config.log.every=20 steps", "--config.checkpoint.every=20 steps", "--config.log.tensorboard=False"),
        *("--config.evaluation.every=1000000 steps", "--config.watchdog.peer_seconds=20"),
    )


@pytest.fixture
def process(tmp_path, data_dir):
    """A run without end; ended after the test."""
    process = start(f"--workdir={tmp_path}/run", *without_end(data_dir), log=tmp_path / "output")
    yield process
    process.kill()
    process.wait()


def replaced_by_a_file(path: pathlib.Path) -> None:
    path.rename(path.with_name(f"{path.name} gone"))
    path.touch()


def replaced_by_a_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment", "break_it"),
    [
        ("checkpoints", "saving", replaced_by_a_file),
        ("checkpoints", "saved", replaced_by_a_file),
        ("metrics.jsonl", "saved", replaced_by_a_folder),
    ],
)
def test_the_run_ends_at_once_with_one_error(process, tmp_path, name, moment, break_it):
    path = tmp_path / "run" / name
    checkpoints = tmp_path / "run" / "checkpoints"
    wanted = {"saving": "*.orbax-checkpoint-tmp", "saved": "[0-9]*[05]"}[moment]
    assert wait_until(lambda: any(checkpoints.glob(wanted)), [process])
    break_it(path)
    code = process.wait(timeout=A_MINUTE)
    output = (tmp_path / "output").read_text()
    assert code == 71, output
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, output
    assert str(tmp_path / "run") in errors[0]


@pytest.mark.slow
def test_two_processes_end_although_only_one_of_them_met_the_error(tmp_path, data_dir):
    """Process 0 alone writes the record; the other waits for it in a collective, where nothing can reach it."""
    workdir = tmp_path / "run"
    processes = start_all([workdir] * 2, *without_end(data_dir), devices=2, log=tmp_path / "output")
    try:
        assert wait_until(lambda: any((workdir / "checkpoints").glob("[0-9]*0")), processes)
        replaced_by_a_folder(workdir / "metrics.jsonl")
        codes = [process.wait(timeout=3 * A_MINUTE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    output = (tmp_path / "output").read_text()
    assert codes[0] == 71, output
    assert codes[1] not in (0, None)
    assert f"Error: the system refused: [Errno 21] Is a directory: '{workdir}/metrics.jsonl'" in output
