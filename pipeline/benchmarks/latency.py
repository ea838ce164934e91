"""Measures how long an image takes in each runtime: our own network on JAX, and its exports.

Networks of one runtime are measured in turns, so other load on the machine affects all of them. A number of threads is a
number of cores that the measuring process may use, set before a runtime is loaded. CPU time is measured besides the clock,
because only it shows the cost of the work on a busy machine.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipeline.errors import MachineError

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Latency:
    """The median costs of a batch, in seconds.

    Attributes:
      wall: Elapsed time.
      cpu: CPU time of all threads of the process.
    """

    wall: float
    cpu: float


def in_turns(forwards: Mapping[str, Callable[[np.ndarray], np.ndarray]], images: Mapping[str, np.ndarray], rounds: int):
    """Times forward passes one after another, round by round.

    Args:
      forwards: Forward passes by name.
      images: uint8 `[batch, height, width, 3]`, by the same names.
      rounds: Number of timed calls of each, after `WARM_UP` others.

    Returns:
      `Latency` by name.
    """
    measured = {name: [] for name in forwards}
    for turn in range(WARM_UP + rounds):
        for name, forward in forwards.items():
            wall, cpu = time.perf_counter(), time.process_time()
            forward(images[name])
            times = time.perf_counter() - wall, time.process_time() - cpu
            if turn >= WARM_UP:
                measured[name].append(times)
    return {name: Latency(*map(statistics.median, zip(*times))) for name, times in measured.items()}


def on_cores(count: int | None, arguments: Sequence[str]) -> dict[str, Latency]:
    """Runs `pipeline.benchmarks.latency_process` on some of the cores and returns its measurements.

    Args:
      count: Number of cores; None for all that this process may use.
      arguments: The arguments of that process after the cores.

    Raises:
      MachineError: the process ended without a result; the message has the last line of its output.
    """
    cores = sorted(os.sched_getaffinity(0))[:count]
    command = [sys.executable, "-m", "pipeline.benchmarks.latency_process", ",".join(map(str, cores)), *arguments]
    end = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    lines = end.stdout.splitlines()
    if end.returncode or not lines:
        words = (end.stderr.strip() or "nothing").splitlines()[-1]
        raise MachineError(f"the measuring process ended with {end.returncode} and said: {words}")
    return {name: Latency(**each) for name, each in json.loads(lines[-1]).items()}


def processor() -> str:
    """Returns the name of this machine's processor, and how many cores this process may use."""
    try:
        lines: Iterable[str] = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} cores"
