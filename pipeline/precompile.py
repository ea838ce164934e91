"""Keeps `planning/precompiled.json` fresh: compiled results that come with the repository, so that common plans take seconds.

python -m pipeline.precompile [--check] [CONFIG[,KEY=VALUE…]:SLICE …]

A pair such as `v2_s:v5e-32` or `b7,batch_size=512:v3-32` is checked, and added if it is not there; by default all in the file.

A result belongs to the very step that it was compiled from. So a change of the network makes results stale: plans then compile
anew, for minutes. This command lowers the steps of today's configurations, which takes 10 to 40 seconds each. With --check it
names the stale results, and exits with 70 if there are any. Otherwise it compiles their steps and writes each result at once,
so that it can be stopped at any time and started again. It needs libtpu (requirements-plan.txt), and no TPU.
"""

import dataclasses
import importlib
import json

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from pipeline import command
from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import ConfigError, TrainingError
from pipeline.host.whole_files import write_whole
from pipeline.planning import program, topology
from pipeline.planning.dataset import dataset_size
from pipeline.planning.slices import parse_slice
from pipeline.training.compatibility import flatten

_CHECK = flags.DEFINE_bool("check", False, "Only name the results that belong to no step of today.")


def main(pairs: list[str]) -> None:
    """Checks or refreshes the results of configurations on slices.

    Args:
      pairs: each "CONFIG:SLICE" with a module of `configs/`, which changes of its keys may follow; none for all in the file.

    Raises:
      ConfigError: a pair names no configuration, key or slice.
      TrainingError: with --check, if a result is stale.
    """
    topology.prepare()
    stale = [name for pair in pairs or _known_pairs() for name in refresh(pair, compile_stale=not _CHECK.value)]
    if stale and _CHECK.value:
        raise TrainingError(
            f"{len(stale)} results of precompiled.json belong to no step of today: {', '.join(stale)}. "
            "Compile them with python -m pipeline.precompile"
        )


def refresh(pair: str, compile_stale: bool) -> list[str]:
    """Returns the names of the stale results of a configuration on a slice, such as "b0-train-v3-32"; may compile them."""
    setting, colon, slice_name = pair.partition(":")
    if not colon:
        raise ConfigError(f"{pair!r}: expected CONFIG:SLICE, such as b0:v3-32")
    config = _configuration(setting)
    tpu_slice, sizes = parse_slice(slice_name), dataset_size(config)
    from pipeline.training.experiment import Experiment

    hparams = resolve(config, **dataclasses.asdict(sizes), num_devices=tpu_slice.devices)
    experiment = Experiment.without_data(config, hparams, topology.mesh_of(tpu_slice))
    stale = []
    for step, lower in experiment.steps().items():
        name = f"{setting}-{step}-{tpu_slice.name}"
        lowered = lower()
        key = program.key_of(lowered, tpu_slice, experiment.compiler_options)
        if _entries().get(name, {}).get("key") == key:
            continue
        stale.append(name)
        if not compile_stale:
            continue
        print(f"compiling {name} …", flush=True)
        result = program.compile_program(lowered, tpu_slice, experiment.compiler_options, f"{setting}-{step}")
        _write({**_entries(), name: {"key": key, "program": dataclasses.asdict(result)}})
    return stale


def _configuration(setting: str) -> ConfigDict:
    """Returns the configuration of a setting such as "b0" or "b7,batch_size=512"."""
    name, *changes = setting.split(",")
    try:
        config = importlib.import_module(f"configs.{name}").get_config()
        values = {key: json.loads(value) for key, value in (change.split("=") for change in changes)}
        if unknown := values.keys() - flatten(config.to_dict()).keys():
            raise KeyError(f"there is no {min(unknown)}")
        config.update_from_flattened_dict(values)
    except (ModuleNotFoundError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{setting!r} is no configuration of configs/ with changes KEY=VALUE: {error}") from error
    return config


def _entries() -> dict[str, dict]:
    return json.loads(program.PRECOMPILED.read_text())


def _write(entries: dict[str, dict]) -> None:
    ordered = dict(sorted(entries.items()))
    write_whole(epath.Path(program.PRECOMPILED), json.dumps(ordered, indent=1) + "\n")


def _known_pairs() -> list[str]:
    """Returns the pairs of the file, from names such as "b0-train-v3-32" and "v2_s-train-1-v5e-32"."""
    pairs = (f"{name.partition('-')[0]}:{'-'.join(name.split('-')[-2:])}" for name in _entries())
    return list(dict.fromkeys(pairs))


if __name__ == "__main__":
    command.run(main, takes_paths=True)
