"""Plans a run on TPU slices with the real step and the real TPU compiler, without a TPU.

python -m pipeline.plan --config configs/b7.py [--topology v4-128 --topology v5e-256 …] [--best] [--json] [--config.key=value …]

For each slice, by default the one that the configuration names, it prints whether the train and evaluation steps fit the
memory, the compiler's cycles for an image by kind of work, images/s, the CPU cores that the input needs, and hours,
chip-hours and dollars for the whole run by launch/prices.txt. Several slices are compared at the end. --best searches batch,
remat and BatchNorm grouping for the fastest variant that fits. A progressive configuration has a train step for each stage,
and the plan sums them. Compiling a large network takes up to half an hour, once; results for the configurations as they come
are in the repository. It needs libtpu (requirements-plan.txt) and exits with 70 if a slice is too small.
"""

import dataclasses
import functools
import json
import sys
import threading
import time

from absl import flags
from ml_collections import ConfigDict

from pipeline import command
from pipeline.configuration.hyperparameters import Hyperparameters, resolve
from pipeline.errors import ConfigError, TrainingError
from pipeline.planning import topology
from pipeline.planning.dataset import DatasetSize, dataset_size
from pipeline.planning.slices import Slice, chip_hour_dollars, parse_slice

_CONFIG = command.define_config()
_TOPOLOGIES = flags.DEFINE_multi_string("topology", [], "A slice, such as v3-32 or v5litepod-256; may be repeated.")
_BEST = flags.DEFINE_bool("best", False, "Search for the fastest variant of the configuration that fits.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of text.")
_SIZES = flags.DEFINE_list("sizes", None, "CLASSES,TRAIN,EVALUATION: the sizes of a dataset that is not here.")
PROGRESS_SECONDS = 30


def main() -> None:
    """Plans `--config` for each `--topology`."""
    config = command.checked(_CONFIG.value)
    slices = [parse_slice(name) for name in _TOPOLOGIES.value or _named_by(config)]
    sizes = dataset_size(config, _given_sizes(), "prepare it, or give --sizes CLASSES,TRAIN,EVALUATION")
    if not _BEST.value:
        for tpu_slice in slices:  # refuse impossible slices before compiling
            _resolve(config, tpu_slice, sizes)
    topology.prepare()

    from pipeline.planning import report, search

    plans = []
    for tpu_slice in slices:
        make_plan = functools.partial(_make_plan, tpu_slice, sizes)
        if _BEST.value:
            found = search.best(config, tpu_slice.devices, make_plan)
            if found is None:
                raise TrainingError(f"no variant that was tried fits {tpu_slice.name}: take a larger slice")
            words, plan = found
            print(f"best on {tpu_slice.name}: {words}", file=sys.stderr if _JSON.value else sys.stdout)
        else:
            plan = make_plan("", config)
        plans.append(plan)
        if not _JSON.value:
            print(report.describe(plan), flush=True)
    if _JSON.value:
        print(json.dumps([report.as_json(plan) for plan in plans], indent=1))
    elif len(plans) > 1:
        print(report.comparison(plans))
    too_small = [plan for plan in plans if not plan.fits]
    if too_small:
        raise TrainingError("; ".join(map(report.shortfall, too_small)) + "; try --best")


def _make_plan(tpu_slice: Slice, sizes: DatasetSize, changes: str, config: ConfigDict):
    from pipeline.planning.estimate import estimate
    from pipeline.planning.program import compile_program
    from pipeline.planning.report import Plan
    from pipeline.training.experiment import Experiment

    hparams = _resolve(config, tpu_slice, sizes)
    experiment = Experiment.without_data(config, hparams, topology.mesh_of(tpu_slice))

    compiled = []
    for step, lower in experiment.steps().items():
        with _Progress(f"{step} step of {config.model.variant} for {tpu_slice.name} {changes}".rstrip()):
            name = f"{config.model.variant}-{step}"
            compiled.append(compile_program(lower(), tpu_slice, experiment.compiler_options, name))
    *stages, evaluation = compiled
    price = chip_hour_dollars(tpu_slice.generation)
    plan = Plan(tpu_slice, hparams, stages, evaluation, None)
    if not plan.fits:
        return plan
    return dataclasses.replace(plan, estimate=estimate(stages, evaluation, hparams, tpu_slice, price))


def _resolve(config: ConfigDict, tpu_slice: Slice, sizes: DatasetSize) -> Hyperparameters:
    return resolve(config, **dataclasses.asdict(sizes), num_devices=tpu_slice.devices)


class _Progress:
    """Prints to stderr what is being compiled, and a reminder every half minute."""

    def __init__(self, what: str):
        self._what, self._done = what, threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> None:
        self._start = time.monotonic()
        print(f"compiling the {self._what} …", file=sys.stderr, flush=True)
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._done.wait(PROGRESS_SECONDS):
            print(f"  still compiling, {time.monotonic() - self._start:.0f} s", file=sys.stderr, flush=True)


def _named_by(config: ConfigDict) -> list[str]:
    if not config.launch.accelerator_type:
        raise ConfigError("--topology is missing, and the configuration names no config.launch.accelerator_type")
    return [config.launch.accelerator_type]


def _given_sizes() -> DatasetSize | None:
    if _SIZES.value is None:
        return None
    if len(_SIZES.value) != 3 or not all(word.isdigit() for word in _SIZES.value):
        raise ConfigError(f"--sizes={','.join(_SIZES.value)}: expected three numbers, CLASSES,TRAIN,EVALUATION")
    return DatasetSize(*map(int, _SIZES.value))


if __name__ == "__main__":
    command.run(main)
