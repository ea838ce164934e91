"""Compiles a program for a slice that is not here, and caches the compiler's results.

Results are cached by content: the same step for the same slice and compiler is compiled once on a machine, and its result is
kept below `$XDG_CACHE_HOME` or ~/.cache. It is not compiled at all if `precompiled.json`, which comes with the repository, has
its result (`python -m pipeline.precompile`). Nothing is run, and no data are needed.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import time
from typing import Any

import jax

from pipeline.host.caches import cache_folder
from pipeline.planning import hlo
from pipeline.planning.slices import GIB, Slice
from pipeline.planning.topology import compiler_version
from pipeline.runtime.lowering import CompilerOptions

PRECOMPILED = pathlib.Path(__file__).resolve().with_name("precompiled.json")
_LONGEST_NAME = 100  # characters; a network may be named by all its stages
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# The compiler refuses in two ways: at once, for the temporaries alone, or after placing every buffer.
_TOO_LARGE = (
    re.compile(r"required for HLO temporaries \(([\d.]+)([BKMGT])\) exceeds available HBM \(([\d.]+)([BKMGT])\)"),
    re.compile(r"Used ([\d.]+)([BKMGT]) of ([\d.]+)([BKMGT]) hbm"),
)
_ALLOCATION = re.compile(r"Size: ([\d.]+)([BKMGT])\s.*?(?:Operator: op_name=\"([^\"]*)\")?\s*Shape: (\S+)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled step, for one device. Sizes are in bytes."""

    fits: bool
    memory: int  # the peak; if the program does not fit, what it would take
    memory_limit: int
    largest: list[tuple[str, int]]  # (origin, size) of the largest arrays
    cycles: int  # all counts are 0 if the program does not fit
    cycles_by_kind: dict[str, int]
    collectives: dict[str, int]  # number of each kind
    collective_bytes: int
    compile_seconds: float


def compile_program(lowered: jax.stages.Lowered, tpu_slice: Slice, options: CompilerOptions, name: str) -> Program:
    """Compiles a program that was lowered for the devices of a slice, or returns the cached result.

    Args:
      lowered: The program.
      tpu_slice: The slice.
      options: Options of the compiler.
      name: A description such as "b7-train"; the cached file's name begins with it.
    """
    key = key_of(lowered, tpu_slice, options)
    program = _precompiled().get(key)
    if program is not None:
        return program
    own = cache_folder("plans")
    for path in own.glob(f"*-{key}.json"):
        return from_json(json.loads(path.read_text()))
    program = _compile(lowered, tpu_slice, options)
    path = own / f"{re.sub('[^a-zA-Z0-9_.,:=-]', '_', name)[:_LONGEST_NAME]}-{tpu_slice.name}-{key}.json"
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(dataclasses.asdict(program), indent=1) + "\n")
    partial.rename(path)  # atomic
    return program


def key_of(lowered: jax.stages.Lowered, tpu_slice: Slice, options: CompilerOptions) -> str:
    """Returns the hash of all that the compiler's result depends on, as 32 hexadecimal digits."""
    circumstances = [hlo.FORMAT_VERSION, tpu_slice.topology_options, compiler_version(), jax.__version__, options]
    return hashlib.sha256((json.dumps(circumstances) + lowered.as_text()).encode()).hexdigest()[:32]


def from_json(content: dict[str, Any]) -> Program:
    """Returns the program whose fields JSON holds."""
    program = Program(**content)
    return dataclasses.replace(program, largest=[(origin, size) for origin, size in program.largest])


@functools.cache
def _precompiled() -> dict[str, Program]:
    """Returns the results that come with the repository, by key."""
    entries = json.loads(PRECOMPILED.read_text()).values()
    return {entry["key"]: from_json(entry["program"]) for entry in entries}


def _compile(lowered: jax.stages.Lowered, tpu_slice: Slice, options: CompilerOptions) -> Program:
    start = time.monotonic()
    try:
        compiled = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if "HBM" not in str(error).upper():
            raise
        return _too_large(str(error), tpu_slice, time.monotonic() - start)
    seconds = time.monotonic() - start
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None, "every TPU compiler has it"
    assert text is not None, "every TPU compiler has it"
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
        - memory.alias_size_in_bytes
    )
    summary = hlo.summarize(text)
    return Program(
        fits=True,
        memory=peak,
        memory_limit=int(tpu_slice.generation.hbm_gib * GIB),
        largest=summary.largest,
        cycles=summary.cycles,
        cycles_by_kind=summary.cycles_by_kind,
        collectives=summary.collectives,
        collective_bytes=summary.collective_bytes,
        compile_seconds=seconds,
    )


def _too_large(message: str, tpu_slice: Slice, seconds: float) -> Program:
    """Parses the compiler's refusal: the memory needed, the memory there is, and the largest arrays."""
    found = next(filter(None, (pattern.search(message) for pattern in _TOO_LARGE)), None)
    if found is None:
        raise ValueError(f"the compiler refused the program with an unknown message: {message[:2000]}")
    largest = [
        (f"{operator or 'a buffer'} {shape}", round(float(number) * _UNITS[unit]))
        for number, unit, operator, shape in _ALLOCATION.findall(message)
    ]
    return Program(
        fits=False,
        memory=round(float(found[1]) * _UNITS[found[2]]),
        memory_limit=round(float(found[3]) * _UNITS[found[4]]),
        largest=largest[:8],
        cycles=0,
        cycles_by_kind=dict.fromkeys(hlo.KINDS, 0),
        collectives={},
        collective_bytes=0,
        compile_seconds=seconds,
    )
