"""Starts real training processes for the tests, waits for what they do, and reads what they leave."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp

from pipeline.reporting.reporter import read_events
from tests.forks import ROOT, Fork

TINIEST = "tests/configs/tiniest.py"
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def xla_flags(devices: int) -> str:
    """Has XLA divide the CPU, and compile fast instead of well."""
    return f"--xla_force_host_platform_device_count={devices} {COMPILE_FAST}"


def start(
    *arguments: str,
    devices: int = 4,
    prefix: Sequence[str] = (),
    log: pathlib.Path | None = None,
    **environment: str,
) -> subprocess.Popen | Fork:
    """Starts `python -m pipeline.train` on some virtual CPU devices; its output is one text stream.

    Args:
        arguments: Of the command.
        devices: Into how many the CPU is divided.
        prefix: A command that runs the command; then the process is not forked from one that has imported everything.
        log: A file that the output goes to instead.
        environment: Further environment variables.
    """
    command = ["-m", "pipeline.train", *arguments]
    variables = {
        **os.environ,
        "XLA_FLAGS": xla_flags(devices),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **environment,
    }
    with contextlib.ExitStack() as cleanup:
        output = None if log is None else cleanup.enter_context(log.open("w"))
        if not prefix:
            return Fork(command, variables, outputs=output and (output.fileno(), output.fileno()))
        return subprocess.Popen(
            [*prefix, sys.executable, *command],
            cwd=ROOT,
            env=variables,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def start_all(
    workdirs: Sequence[pathlib.Path],
    *arguments: str,
    devices: int,
    per_process: Sequence[Sequence[str]] = (),
    log: pathlib.Path | None = None,
    **environment: str,
) -> list[subprocess.Popen | Fork]:
    """Starts a run of one process for each work directory, as `start` does; several share what they compile.

    Args:
      workdirs: the work directory that each process is given.
      arguments: further arguments of all.
      devices: of each process.
      per_process: further arguments of each.
      log: what process 0 writes goes there, and what process i does to the same name with suffix `.i`.
    """
    if len(workdirs) > 1:
        before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "one_compilation"), *before])
        environment["JAX_SHARE_BINARY_BETWEEN_HOSTS"] = "yes"  # one of them compiles
    address = f"--coordinator_address=localhost:{free_port()}"
    return [
        start(
            f"--workdir={workdir}",
            *(() if len(workdirs) == 1 else (address, f"--process_count={len(workdirs)}", f"--process_index={index}")),
            *arguments,
            *(per_process[index] if per_process else ()),
            devices=devices,
            log=log and (log.with_suffix(f".{index}") if index else log),
            **environment,
        )
        for index, workdir in enumerate(workdirs)
    ]


def finish(processes: Sequence[subprocess.Popen | Fork]) -> tuple[list[int], list[str]]:
    """Returns the exit codes and the outputs."""
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def run(*arguments: str, **options) -> tuple[int, str]:
    """Runs a training process to its end and returns its exit code and output."""
    process = start(*arguments, **options)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def wait_for(process: subprocess.Popen | Fork, text: str) -> str:
    """Reads the output up to the first line with `text` and returns it; fails when the process ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


def wait_until(happened: Callable[[], bool], processes: Sequence[subprocess.Popen | Fork]) -> bool:
    """Returns True as soon as something happened, and False when a process ended before."""
    deadline = time.monotonic() + 600
    while not happened():
        if any(process.poll() is not None for process in processes):
            return happened()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return True


def state_at(workdir: pathlib.Path, step: int, folder: str = "checkpoints") -> dict:
    """Returns the arrays of a checkpoint as nested dictionaries, whatever devices they were saved from."""
    path = workdir / folder / str(step) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        saved = reader.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return reader.restore(path, restore_args=as_numpy)


def reported(workdir: pathlib.Path, event: str, key: str) -> dict:
    """Returns a value of all events of a kind by their steps; fails when a step was reported twice."""
    values = [(entry["step"], entry[key]) for entry in read_events(str(workdir)) if entry["event"] == event]
    assert len(values) == len(dict(values)), values
    return dict(values)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
