"""The command: what it says and how it ends. What it does is tested in tests/data/preparation."""

import os
import subprocess
import sys

import pytest

from pipeline.data.sources import open_source
from pipeline.errors import ConfigError, DataError


def prepare(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.prepare", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def test_digits_are_prepared_once(tmp_path):
    first = prepare("--dataset=digits", f"--data_dir={tmp_path}")
    assert (first.returncode, first.stdout) == (0, f"Prepared {tmp_path}/digits/1.0.0\n")
    assert "1437/1437" in first.stderr  # progress
    assert len(open_source("digits", "test", str(tmp_path))) == 360
    second = prepare("--dataset=digits", f"--data_dir={tmp_path}")
    assert second.returncode == DataError.exit_code
    assert second.stderr.splitlines() == [
        f"Error: {tmp_path}/digits/1.0.0 already holds a finished dataset. To make it anew, delete that folder first."
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dataset=digits", "--image_folder=pictures"),
        ("--image_folder=pictures",),
        ("--dataset=digits", "--name=mine"),
        ("--dataset=fake_imagenet", "--examples=10"),
        ("--convert=nowhere",),
        ("--dataset=digits", "stray"),
    ],
)
def test_a_command_line_that_says_too_little_or_too_much_is_one_error(tmp_path, arguments):
    result = prepare(*arguments, cwd=tmp_path)
    assert result.returncode == ConfigError.exit_code
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
