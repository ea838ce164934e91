"""Times the train step of a configuration on the devices of this machine, in turns with Keras's.

The step is the one that trains, on a batch of noise. Both steps are compiled first. Then rounds alternate, so other load
affects both alike, and the median round counts.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from pipeline.benchmarks.keras_step import keras_step
from pipeline.training.experiment import DatalessExperiment


@dataclasses.dataclass(frozen=True)
class StepCosts:
    """One step: wall-clock seconds, and CPU seconds of this process, which say little on accelerators."""

    seconds: float
    cpu_seconds: float


def measure_steps(experiment: DatalessExperiment, rounds: int, *, with_keras: bool) -> dict[str, StepCosts]:
    """Returns the costs of one step, "ours" and "keras"."""
    batch = _noise(experiment)
    others = {"keras": _keras(experiment, batch)} if with_keras else {}  # first, because it may not have the network
    steps = {"ours": _ours(experiment, batch), **others}
    for take in steps.values():
        take()  # compiles and fills caches
    costs: dict[str, list[StepCosts]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, take in steps.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            take()
            costs[name].append(StepCosts(time.perf_counter() - start, time.process_time() - cpu_start))
    return {
        name: StepCosts(
            *(statistics.median(getattr(cost, field) for cost in found) for field in ("seconds", "cpu_seconds"))
        )
        for name, found in costs.items()
    }


def _noise(experiment: DatalessExperiment) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    hparams = experiment.hparams

    def fill(name: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        limit = {"image": 256, "label": hparams.num_classes}.get(name, 2)
        values = np.ones(leaf.shape) if name == "weight" else rng.integers(0, limit, leaf.shape)
        return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

    batch = experiment.abstract_batch(hparams.batch_size, hparams.image_size)
    return {name: fill(name, leaf) for name, leaf in batch.items()}


def _ours(experiment: DatalessExperiment, batch: dict[str, jax.Array]) -> Callable[[], None]:
    step, state = experiment.compile_train_step(), experiment.create_state()

    def take() -> None:
        nonlocal state
        state, *outputs = step(state, batch)
        jax.block_until_ready((state, outputs))

    return take


def _keras(experiment: DatalessExperiment, batch: dict[str, jax.Array]) -> Callable[[], None]:
    function, arrays = keras_step(experiment)
    step = jax.jit(function, donate_argnums=0, out_shardings=(experiment.replicated, experiment.replicated))
    state = jax.device_put(arrays, experiment.replicated)

    def take() -> None:
        nonlocal state
        state, loss = step(state, batch["image"], batch["label"])
        jax.block_until_ready((state, loss))

    return take
