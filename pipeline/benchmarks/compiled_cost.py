"""The cost of one image in a network by the TPU compiler: a device's cycles in the train or the evaluation step."""

import dataclasses

from ml_collections import ConfigDict

from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import ConfigError
from pipeline.model.scaling_search import Cost
from pipeline.model.variants import ScaledVariant
from pipeline.planning import topology
from pipeline.planning.dataset import DatasetSize
from pipeline.planning.slices import Slice


class Unaffordable(ConfigError):
    """A network has no cost: its step does not fit the slice, or takes too long to compile."""


def for_network(config: ConfigDict, variant: ScaledVariant) -> ConfigDict:
    """Returns a copy of a configuration that trains another network."""
    config = config.copy_and_resolve_references()
    config.model.variant, config.image_size = str(variant), variant.resolution
    return config


def cycles_of_step(config: ConfigDict, tpu_slice: Slice, sizes: DatasetSize, *, evaluation: bool = False) -> Cost:
    """Returns the cost of networks that are trained by a configuration. Call `topology.prepare` before.

    Args:
      config: The configuration.
      tpu_slice: The slice to compile for.
      sizes: The sizes of the dataset.
      evaluation: Whether to compile the evaluation step instead of the train step.

    The cost raises `Unaffordable` for a network whose step does not fit.

    Raises:
      ConfigError: the compiler does not know the slice.
    """
    from pipeline.planning.program import compile_program
    from pipeline.training.experiment import Experiment

    mesh, step = topology.mesh_of(tpu_slice), "evaluation" if evaluation else "train"

    def cycles(variant: ScaledVariant) -> float:
        own = for_network(config, variant)
        hparams = resolve(own, **dataclasses.asdict(sizes), num_devices=tpu_slice.devices)
        experiment = Experiment.without_data(own, hparams, mesh)
        lowered = experiment.lower_eval_step() if evaluation else experiment.lower_train_step()
        images = hparams.eval_batch_size if evaluation else hparams.batch_size
        program = compile_program(lowered, tpu_slice, experiment.compiler_options, f"{variant}-{step}")
        if not program.fits:
            raise Unaffordable(f"the {step} step of {variant} does not fit {tpu_slice.name}")
        return program.cycles / (images / tpu_slice.devices)

    return cycles
