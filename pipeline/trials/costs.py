"""The cost of one image in a network: counted multiply-adds, compiled TPU cycles, or seconds measured on this machine.

A compiled or measured cost is determined once for each network, whatever its multipliers are called, and kept in the study's
folder. So every start of a study compares the same networks. That a network has no cost, as it does not fit its slice or takes
too long to compile, is kept too.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from pipeline.benchmarks.compiled_cost import Unaffordable, cycles_of_step, for_network
from pipeline.errors import ConfigError, DataError
from pipeline.host.announcing import announce
from pipeline.host.whole_files import write_whole
from pipeline.model.scaling_search import Cost, identity, multiply_adds
from pipeline.model.variants import ScaledVariant
from pipeline.planning import topology
from pipeline.planning.dataset import DatasetSize
from pipeline.planning.slices import parse_slice

COSTS = ("macs", "cycles", "latency")
UNITS = {  # as shown: the name, and how many a unit of the cost is
    "macs": ("multiply-adds", 1.0),
    "cycles": ("cycles", 1.0),
    "latency": ("ms", 1e3),
}
KEPT = "costs.json"
_WARM_UP, _ROUNDS = 3, 30


def cost_of(
    kind: str,
    config: ConfigDict,
    workdir: epath.Path,
    sizes: DatasetSize,
    compiled_within: Callable[[Cost], Cost] = lambda cost: cost,
) -> Cost:
    """Returns the cost by which a study compares networks.

    Args:
      kind: One of `COSTS`.
      config: The configuration of the trials.
      workdir: The folder of the study.
      sizes: The sizes of the dataset.
      compiled_within: Limits a cost that is compiled; see `compile_process.limited`.

    The cost raises `Unaffordable` for a network that has none.

    Raises:
      MachineError: the study compares by cycles and the TPU compiler is not installed.
      DataError: the kept costs cannot be read.
    """
    if kind == "macs":
        return multiply_adds(sizes.num_classes)
    if kind == "cycles":
        return _kept(workdir / KEPT, compiled_within(compiled_cycles(config, sizes)), "minutes, for a large one")
    return _kept(workdir / KEPT, _measured_seconds(config, sizes), "2 to 30 seconds")


def shown(kind: str, cost: float) -> str:
    """Returns a cost of a kind as text, in the unit of `UNITS`."""
    factor = UNITS[kind][1]
    return f"{cost * factor:,.0f}" if factor == 1 else f"{cost * factor:.3f}"


def _kept(path: epath.Path, cost: Cost, usually: str) -> Cost:
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        costs = {identity(ScaledVariant.parse(text)): _read(each) for text, each in known.items()}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): delete it with the whole study, whose networks it chose"
        ) from error

    def kept(variant: ScaledVariant) -> float:
        network = identity(variant)
        if network not in costs:
            announce(f"Cost {len(known) + 1}, of {variant}", usually)
            try:
                costs[network] = known[str(variant)] = cost(variant)
            except Unaffordable as problem:
                costs[network], known[str(variant)] = problem, {"problem": str(problem)}
            write_whole(path, json.dumps(known, indent=1) + "\n")
        found = costs[network]
        if isinstance(found, Unaffordable):
            raise found
        return found

    return kept


def _read(content: Any) -> float | Unaffordable:
    return Unaffordable(str(content["problem"])) if isinstance(content, dict) else float(content)


def compiled_cycles(config: ConfigDict, sizes: DatasetSize) -> Cost:
    """Returns a device's cycles for one image of the train step, as compiled for the configuration's slice."""
    if not config.launch.accelerator_type:
        raise ConfigError("--cost=cycles: the trials' configuration names no launch.accelerator_type to compile for")
    tpu_slice = parse_slice(config.launch.accelerator_type)
    topology.prepare()
    return cycles_of_step(config, tpu_slice, sizes)


def _measured_seconds(config: ConfigDict, sizes: DatasetSize) -> Cost:
    """Returns the median seconds of a float32 forward pass of one image on this machine's default device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the trials need the memory

    def seconds(variant: ScaledVariant) -> float:
        forward, arguments = forward_pass(for_network(config, variant), sizes.num_classes)
        return _median_seconds(lambda: forward(*arguments))

    return seconds


def forward_pass(config: ConfigDict, num_classes: int):
    """Returns the jitted forward pass of a configuration's network in float32, and its arguments for one image.

    All are arguments, as XLA would compute a pass of constants while it compiles. Every value is 0: the time does not depend
    on them.
    """
    import jax
    import jax.numpy as jnp

    from pipeline.model.network import build_model

    config = config.copy_and_resolve_references()
    config.model.dtype = "float32"
    model = build_model(config.model, num_classes)
    images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(images), train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    forward = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    return forward, jax.device_put((variables, images))


def _median_seconds(run: Callable[[], object]) -> float:
    import jax

    measured = []
    for _ in range(_WARM_UP + _ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        measured.append(time.perf_counter() - start)
    return statistics.median(measured[_WARM_UP:])
