"""Measures a part of the pipeline on this machine.

python -m pipeline.benchmark input --config configs/b0.py [--step_seconds 0.2] [--config.key=value …]

`input`: what a host pays for an image, by stage, beside tf.data; with --step_seconds, the seconds of a training step, also
how many cores each host needs to keep up with it.
"""

import functools
import sys

from absl import flags

from pipeline import command
from pipeline.errors import ConfigError

_CONFIG = command.define_config()
_PICTURES = flags.DEFINE_integer("pictures", 512, "How many pictures each measurement reads.", lower_bound=1)
_STEP_SECONDS = flags.DEFINE_float("step_seconds", None, "Seconds of a step of the whole run.", lower_bound=1e-6)
_HOSTS = flags.DEFINE_integer("hosts", 1, "Number of hosts that share a batch.", lower_bound=1)


def main_input() -> None:
    """Prints the costs of the input of `--config`."""
    config = command.checked(_CONFIG.value)

    import jax

    from pipeline.data import benchmark, preprocessing
    from pipeline.data.sources import open_source
    from pipeline.model.scaling import architecture

    source = open_source(config.data.name, config.data.train_split, config.data.data_dir)
    size = config.image_size or architecture(config.model.variant).resolution
    transform = preprocessing.train_transform(config.data, size)
    print(
        f"{source.name} {config.data.train_split}, {size} px, augment={config.data.augment}, resize={config.data.resize}"
    )
    costs = benchmark.measure_input(
        source, transform, size, lambda batch: jax.block_until_ready(jax.device_put(batch)), _PICTURES.value
    )
    print(benchmark.report(costs))
    rates = {"1,000 images/s": 1000.0}
    if _STEP_SECONDS.value is not None:
        rates = {f"a step of {_STEP_SECONDS.value} s": config.batch_size / _HOSTS.value / _STEP_SECONDS.value}
    for what, rate in rates.items():
        print(f"{what} on a host: {rate:,.0f} images/s need {benchmark.cores_needed(costs, rate)} cores like these")


_BENCHMARKS = {"input": main_input}


def main(what: str) -> None:
    """Runs the benchmark called `what`."""
    if what not in _BENCHMARKS:
        raise ConfigError(
            f"say first what to measure: python -m pipeline.benchmark {'|'.join(_BENCHMARKS)} --config FILE"
        )
    _BENCHMARKS[what]()


if __name__ == "__main__":
    program, *words = sys.argv
    named = bool(words) and not words[0].startswith("-")
    command.run(functools.partial(main, words[0] if named else ""), [program, *words[named:]])
