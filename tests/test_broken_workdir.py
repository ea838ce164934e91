"""What becomes of a run whose directory is changed under it: one error, the right code, and an end without delay."""

import pathlib

import pytest

from pipeline.data.preparation.datasets import prepare_digits
from tests.runs import TINY, start, wait_until

A_MINUTE = 60  # of the 302 seconds for which such a process once stayed alive


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    return directory


@pytest.fixture
def process(tmp_path, data_dir):
    """A run without end that saves every 20 steps; ended after the test."""
    process = start(
        *(f"--config={TINY}", f"--workdir={tmp_path}/run", f"--config.data.data_dir={data_dir}"),
        *("--config.duration=1000000 steps", "--config.log.every=100 steps", "--config.checkpoint.every=20 steps"),
        *("--config.evaluation.every=1000000 steps", "--config.log.tensorboard=False"),
        log=tmp_path / "output",
    )
    yield process
    process.kill()
    process.wait()


def replaced_by_a_file(path: pathlib.Path) -> None:
    path.rename(path.with_name(f"{path.name} gone"))
    path.touch()


def replaced_by_a_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


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
