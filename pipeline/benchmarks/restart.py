"""Measures checkpoints and restarts: how long the loop stops for a save, and the time from a start to the first step.

Checkpoints are saved by the code that training uses. Restarts are real processes of `pipeline.train`, stopped as by a
preemption.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np

from pipeline.errors import MachineError
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.training.experiment import DatalessExperiment
from pipeline.training.update.state import TrainState

_ROUNDS = 5
_WITHOUT_END = "--config.duration=1000000 steps"  # a short run could reach its end before it is stopped


@dataclasses.dataclass(frozen=True)
class CheckpointCosts:
    """The costs of a checkpoint: medians, in seconds.

    Attributes:
        arrays: number of arrays in the state.
        state_bytes: bytes of the state.
        standstill: until the loop continues.
        saved: until the checkpoint is complete on disk, including the standstill.
        restored: to read it back.
    """

    arrays: int
    state_bytes: int
    standstill: float
    saved: float
    restored: float


def measure_checkpoint(experiment: DatalessExperiment, folder: str | None) -> CheckpointCosts:
    """Saves and restores noise of an experiment's state shapes in a new folder inside `folder`; None: the temporary one."""
    standstill, saved, restored = [], [], []
    abstract_state = experiment.abstract_state()
    state = _noise(abstract_state)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="checkpoint-benchmark.") as directory,
        Checkpoints(directory, keep=1) as checkpoints,
    ):
        for step in range(1 + _ROUNDS):  # the first one warms up and is not counted
            start = time.perf_counter()
            checkpoints.save(step, state, {"config": json.loads(experiment.config.to_json_best_effort())})
            standstill.append(time.perf_counter() - start)
            checkpoints.wait()
            saved.append(time.perf_counter() - start)
        for _ in range(1 + _ROUNDS):
            start = time.perf_counter()
            found = checkpoints.restore_newest(abstract_state)
            assert found is not None, "checkpoints were saved above"
            jax.block_until_ready(found[0])
            restored.append(time.perf_counter() - start)
    leaves = jax.tree.leaves(abstract_state)
    return CheckpointCosts(
        arrays=len(leaves),
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        standstill=statistics.median(standstill[1:]),
        saved=statistics.median(saved[1:]),
        restored=statistics.median(restored[1:]),
    )


@dataclasses.dataclass(frozen=True)
class RestartCosts:
    """Seconds from the start of a process to the report of its first step, and how many of them it compiled."""

    first_step: float
    compiling: float


def measure_restart(arguments: Sequence[str], folder: str | None) -> dict[str, RestartCosts]:
    """Starts a run, stops it after a step, and restarts it with an empty ("cold") and a filled ("warm") compilation cache.

    Args:
      arguments: arguments of `pipeline.train`, without `--workdir`.
      folder: where to create a folder for the run; None: in the temporary one.

    Raises:
      MachineError: a process ended early; its output is in the message.
    """
    costs = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="restart-benchmark.") as directory:
        workdir, cache = pathlib.Path(directory) / "run", pathlib.Path(directory) / "cache"
        for name in ("first", "cold", "warm"):
            if name == "cold":
                shutil.rmtree(cache)
            costs[name] = _start_and_stop([*arguments, f"--workdir={workdir}"], cache)
    return {name: costs[name] for name in ("cold", "warm")}


def _noise(abstract_state: TrainState) -> TrainState:
    """Returns a state that compresses no better than a trained one."""
    rng = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.device_put(rng.standard_normal(leaf.shape).astype(leaf.dtype), leaf.sharding)

    return jax.tree.map(fill, abstract_state)


def _start_and_stop(arguments: Sequence[str], cache: pathlib.Path) -> RestartCosts:
    """Runs a process until it reports a step, then asks it to stop and waits for its end."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", *arguments, "--config.log.every=1 steps", _WITHOUT_END],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None, "it is a pipe"
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("step "):
            break
    else:
        raise MachineError(f"a run ended with exit code {process.wait()} before its first step:\n{output}")
    seconds = time.perf_counter() - start
    process.terminate()
    process.communicate()
    compiling = re.search(r"Compiled in ([\d.]+) seconds", output)
    assert compiling is not None, "a run prints it before its first step"
    return RestartCosts(seconds, float(compiling[1]))
