"""Measures a part of the pipeline on this machine.

python -m pipeline.benchmark input --config configs/b0.py [--data FOLDER] [--step_seconds 0.2] [--config.key=value …]
python -m pipeline.benchmark step --config configs/b0.py [--aot v5e-8] [--nokeras] [--timm] [--config.key=value …]
python -m pipeline.benchmark checkpoint --config configs/b7.py [--folder FOLDER] [--config.key=value …]
python -m pipeline.benchmark restart --config configs/quickstart.py [--config.key=value …]
python -m pipeline.benchmark latency --weights WEIGHTS [--rounds 10]
python -m pipeline.benchmark paper [--nolatency] [--rounds 10]
python -m pipeline.benchmark growth --config configs/b0.py --aot v5litepod-32 [--inference] [--budget 2]

- `input`: the CPU time of an image by stage, beside tf.data. --data takes the images of a folder instead of a prepared dataset.
  --step_seconds, the seconds of a training step, adds the number of cores that each host needs. Data on gs:// add the costs of
  reading from there and from a copy.
- `step`: the train step on the devices of this machine, in turns with Keras on JAX and, with --timm, timm. --aot gives the TPU
  compiler's estimate of ours and Keras's for a slice instead. It needs no data.
- `checkpoint`: how long training stops for a checkpoint, and when it is complete, in --folder.
- `restart`: seconds from the start of a process to its first step, with an empty and with a filled compilation cache.
- `latency`: which format of `pipeline.export` is fastest here, for 1 and 32 images, on one core and on all.
- `paper`: the paper's tables of parameters and multiply-adds from our own counts, and its table of CPU latency measured here.
- `growth`: which of depth, width and resolution gains most multiply-adds and parameters for a cycle, by the TPU compiler. It
  compiles the train step, or with --inference the evaluation step, of ten networks. For B0 that takes hours, or 20 minutes.
"""

import dataclasses
import functools
import os
import sys

from absl import flags
from ml_collections import config_flags

from pipeline import command
from pipeline.errors import ConfigError
from pipeline.weights import command_line

_CONFIG = command.define_config()
_IMAGES = flags.DEFINE_integer("images", 512, "How many images each measurement reads.", lower_bound=1)
_STEP_SECONDS = flags.DEFINE_float("step_seconds", None, "Seconds of a step of the whole run.", lower_bound=1e-6)
_DATA = flags.DEFINE_string("data", None, "Of input: a folder of images, instead of the configuration's dataset.")
_FOLDER = flags.DEFINE_string("folder", None, "A folder on the disk to measure; default: the machine's temporary one.")
_AOT = flags.DEFINE_string("aot", None, "Compile the step for this slice, such as v5e-8, instead of timing it here.")
_KERAS = flags.DEFINE_bool("keras", True, "Also measure the same training in Keras on JAX.")
_TIMM = flags.DEFINE_bool("timm", False, "Also time the network in timm on the CPU, with the Python in $TIMM_PYTHON.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "How many steps of each are timed.", lower_bound=1)
_LATENCY = flags.DEFINE_bool("latency", True, "Of paper: also measure latencies, which takes minutes.")
_INFERENCE = flags.DEFINE_bool("inference", False, "Of growth: compile the evaluation step instead of the train step.")
_BUDGET = flags.DEFINE_float("budget", 2.0, "Of growth: the cycles to compare at, in cycles of the network.", 1.01, 100)
_HOSTS = flags.DEFINE_integer("hosts", 1, "Number of hosts that share a batch.", lower_bound=1)


def main_input() -> None:
    """Prints the costs of the input of `--config`."""
    config = command.checked(_CONFIG.value)

    import jax

    from pipeline.benchmarks import input as input_benchmark
    from pipeline.benchmarks import reading
    from pipeline.data import preprocessing
    from pipeline.data.sources import open_source
    from pipeline.model.scaling import architecture

    if _DATA.value is None:
        source = open_source(config.data.name, config.data.train_split, config.data.data_dir)
        what = f"{source.name} {source.split}"
        if source.remote:
            print(reading.report(*reading.measure_reading(source, _IMAGES.value)), flush=True)
    else:
        what = _DATA.value
        source = input_benchmark.FolderSource(_DATA.value, _IMAGES.value)
    size = config.image_size or architecture(config.model.variant).resolution
    transform = preprocessing.train_transform(config.data, size)
    print(f"{what}, {size} px, augment={config.data.augment}, resize={config.data.resize}")
    costs = input_benchmark.measure_input(
        source, transform, size, lambda batch: jax.block_until_ready(jax.device_put(batch)), _IMAGES.value
    )
    print(input_benchmark.report(costs))
    rates = {"1,000 images/s": 1000.0}
    if _STEP_SECONDS.value is not None:
        rates = {f"a step of {_STEP_SECONDS.value} s": config.batch_size / _HOSTS.value / _STEP_SECONDS.value}
    for what, rate in rates.items():
        print(
            f"{what} on a host: {rate:,.0f} images/s need {input_benchmark.cores_needed(costs, rate)} cores like these"
        )


def main_step() -> None:
    """Prints the costs of the train step of `--config`."""
    config = command.checked(_CONFIG.value)

    from pipeline.planning import topology
    from pipeline.planning.slices import parse_slice

    tpu_slice = parse_slice(_AOT.value) if _AOT.value else None
    if tpu_slice and _TIMM.value:
        raise ConfigError("--timm cannot be compiled for --aot: it is timed on the CPU; leave one of them out")
    if tpu_slice:
        topology.prepare()

    import jax

    from pipeline.runtime import distributed
    from pipeline.runtime.mesh import make_mesh

    distributed.split_cpu(config.virtual_devices)
    experiment = _without_data(config, topology.mesh_of(tpu_slice) if tpu_slice else make_mesh())
    mesh, hparams = experiment.mesh, experiment.hparams
    print(
        f"{config.model.variant} at {hparams.image_size} px, {config.model.dtype}, batch {hparams.batch_size} on "
        f"{tpu_slice.name if tpu_slice else f'{mesh.size} device(s): {jax.devices()[0].device_kind}'}"
    )
    if tpu_slice:
        _print_compiled(experiment, tpu_slice)
    else:
        _print_timed(experiment)


def _without_data(config, mesh):
    """Returns the experiment of a configuration whose dataset is known by its sizes only."""
    from pipeline.configuration.hyperparameters import resolve
    from pipeline.planning.dataset import dataset_size
    from pipeline.training.experiment import Experiment

    hparams = resolve(config, **dataclasses.asdict(dataset_size(config)), num_devices=mesh.size)
    return Experiment.without_data(config, hparams, mesh)


def _print_compiled(experiment, tpu_slice) -> None:
    from pipeline.benchmarks.keras_step import lower_keras_step
    from pipeline.planning.program import compile_program

    variant = experiment.config.model.variant
    steps = {"ours": (experiment.lower_train_step, experiment.compiler_options, f"{variant}-train")}
    if _KERAS.value:
        steps["keras"] = functools.partial(lower_keras_step, experiment), {}, f"{variant}-keras"
    images = experiment.hparams.batch_size // tpu_slice.devices
    for name, (lower, options, file_name) in steps.items():
        program = compile_program(lower(), tpu_slice, options, file_name)
        kinds = ", ".join(f"{kind} {cycles / images / 1e6:.3f}" for kind, cycles in program.cycles_by_kind.items())
        print(
            f"{name:6} {program.cycles / images / 1e6:.3f} million cycles an image ({kinds}), "
            f"{program.memory / 2**30:.2f} GiB, {sum(program.collectives.values())} collectives of "
            f"{program.collective_bytes / 1e6:.1f} MB" + ("" if program.fits else ": DOES NOT FIT"),
            flush=True,
        )


def _print_timed(experiment) -> None:
    from pipeline.benchmarks.step import measure_steps
    from pipeline.benchmarks.timm_step import measure_timm

    images = experiment.hparams.batch_size
    timm = {"timm": measure_timm(experiment, _ROUNDS.value)} if _TIMM.value else {}  # first: timm may be missing
    measured = measure_steps(experiment, _ROUNDS.value, with_keras=_KERAS.value)
    for name, costs in (measured | timm).items():
        print(
            f"{name:6} {costs.seconds * 1e3:8.1f} ms a step, {images / costs.seconds:8.1f} images/s, "
            f"{images / costs.cpu_seconds:8.1f} images per CPU second"
        )


def _folder() -> str | None:
    if _FOLDER.value is not None and not os.path.isdir(_FOLDER.value):
        raise ConfigError(
            f"--folder={_FOLDER.value}: there is no such folder on this machine; make it, or name another"
        )
    return _FOLDER.value


def main_checkpoint() -> None:
    """Prints the costs of a checkpoint of `--config`."""
    config = command.checked(_CONFIG.value)

    from pipeline.benchmarks import restart as restart_benchmark
    from pipeline.configuration.durations import in_minutes
    from pipeline.runtime import distributed
    from pipeline.runtime.mesh import make_mesh

    folder = _folder()
    distributed.split_cpu(config.virtual_devices)
    costs = restart_benchmark.measure_checkpoint(_without_data(config, make_mesh()), folder)
    interval = 60 * in_minutes(config.checkpoint.also_every, "checkpoint.also_every")
    print(
        f"{config.model.variant}: {costs.arrays:,} arrays, {costs.state_bytes / 1e9:.2f} GB\n"
        f"training stands still   {costs.standstill:7.2f} s"
        + (f"   {costs.standstill / interval:.2%} of {config.checkpoint.also_every}" if interval else "")
        + f"\ncomplete after          {costs.saved:7.2f} s\nread back in            {costs.restored:7.2f} s"
    )


def main_restart() -> None:
    """Prints the costs of restarts of a run of `--config`."""
    command.checked(_CONFIG.value)

    from pipeline.benchmarks import restart as restart_benchmark

    flag = flags.FLAGS["config"]
    arguments = [f"--config={config_flags.get_config_filename(flag)}"]
    arguments += [f"--config.{key}={value}" for key, value in config_flags.get_override_values(flag).items()]
    for cache, costs in restart_benchmark.measure_restart(arguments, _folder()).items():
        print(
            f"{cache} cache: first step {costs.first_step:.1f} s after the start, {costs.compiling:.1f} s of it compiling"
        )


def main_latency() -> None:
    """Prints the latency of each export format for `--weights`."""
    weights = command_line.open_weights()

    from pipeline.benchmarks import formats, latency

    print(f"{weights.describe()}\n{latency.processor()}; milliseconds an image, and CPU milliseconds in brackets")
    print(formats.report(formats.measure(weights, _ROUNDS.value)))


def main_paper() -> None:
    """Prints the paper's tables from our counts, and its table of latencies from measurements."""
    from pipeline.benchmarks import formats, latency, paper

    print(paper.tables(), flush=True)
    if _LATENCY.value:
        print(f"\nTable 4: batch 1, one core, milliseconds; {latency.processor()}", flush=True)
        print(formats.report_table_4(formats.measure_table_4(_ROUNDS.value)))


def main_growth() -> None:
    """Prints what the network of `--config` gains for compiled cycles as it grows in each dimension."""
    config = command.checked(_CONFIG.value)

    from pipeline.benchmarks import growth
    from pipeline.model.variants import ScaledVariant
    from pipeline.planning import topology
    from pipeline.planning.dataset import dataset_size
    from pipeline.planning.slices import parse_slice

    if not _AOT.value:
        raise ConfigError("--aot is missing: name the slice to compile for, such as --aot v5litepod-32")
    tpu_slice = parse_slice(_AOT.value)
    topology.prepare()

    from pipeline.benchmarks.compiled_cost import cycles_of_step

    sizes, found = dataset_size(config), []
    cycles = cycles_of_step(config, tpu_slice, sizes, evaluation=_INFERENCE.value)
    for way, variant in growth.networks(ScaledVariant.parse(config.model.variant)):
        found.append(growth.grown(way, variant, cycles, sizes.num_classes))
        print(f"{way:10} {variant}: {found[-1].cycles:,.0f} cycles an image", flush=True)
    print(f"\n{growth.table(found)}\n\n{growth.verdict(found, _BUDGET.value)}")


_BENCHMARKS = {
    "input": main_input,
    "step": main_step,
    "checkpoint": main_checkpoint,
    "restart": main_restart,
    "latency": main_latency,
    "paper": main_paper,
    "growth": main_growth,
}


def main(what: str) -> None:
    """Runs the benchmark called `what`."""
    if what not in _BENCHMARKS:
        raise ConfigError(
            f"name the benchmark first: python -m pipeline.benchmark {'|'.join(_BENCHMARKS)}; --help has their flags"
        )
    _BENCHMARKS[what]()


if __name__ == "__main__":
    program, *words = sys.argv
    named = bool(words) and not words[0].startswith("-")
    command.run(functools.partial(main, words[0] if named else ""), [program, *words[named:]])
