"""Starts real training processes for the tests, and reads what they leave."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = "tests/configs/tiny.py"


def start(*arguments: str, devices: int = 4, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen:
    """Starts `python -m pipeline.train` on some virtual CPU devices; its output is one text stream.

    Args:
        arguments: Of the command.
        devices: Into how many the CPU is divided.
        prefix: A command that runs the command.
        environment: Further environment variables.
    """
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "pipeline.train", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments: str, **options) -> tuple[int, str]:
    """Runs a training process to its end and returns its exit code and output."""
    process = start(*arguments, **options)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def wait_for(process: subprocess.Popen, text: str) -> str:
    """Reads the output up to the first line with `text` and returns it; fails when the process ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


def state_at(workdir: pathlib.Path, step: int) -> dict:
    """Returns the arrays of a checkpoint as nested dictionaries."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "state")
