"""Fine-tuning: which weights a run starts from, which parts are frozen, and how fast each part learns.

The parts of a network are the stem, the stages and the head, in this order. Freezing a part keeps its parameters and its
BatchNorm statistics to the bit. With the defaults of `config.finetune`, nothing here changes model, optimizer or state.
"""

import dataclasses
from typing import cast

import jax
import optax
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.host.paths import expanded
from pipeline.model.network import Network, with_family_defaults
from pipeline.model.scaling import architecture
from pipeline.training.update.state import TrainState
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Preprocessing
from pipeline.weights.opening import Overrides, open_weights

CLASSIFIER_AND_LAST_NORM = "classifier_and_last_norm"  # of config.finetune.trained


def start_from(state: TrainState, config: ConfigDict, num_classes: int, sharding: jax.sharding.Sharding) -> TrainState:
    """Returns a state at step 0 whose parameters, statistics and averages are the weights of `config.init_from`.

    Args:
      state: A new state. A new head comes from it.
      config: The run's configuration. Its network must be that of the weights.
      num_classes: Of the dataset.
      sharding: Where the state lives.

    Raises:
      ConfigError, DataError: the weights cannot be read or are not of this network.
    """
    weights = open_weights(expanded(config.init_from), Overrides(variant=config.model.variant))
    _log_differences(weights, config)
    arrays = dict(weights.arrays)
    differs = weights.metadata.num_classes != num_classes
    if config.finetune.head == "keep" and differs:
        raise ConfigError(
            f"config.finetune.head='keep', but {config.init_from} has {weights.metadata.num_classes} classes and the "
            f"dataset {num_classes}"
        )
    if config.finetune.head == "new" or differs:
        logging.info("The classifier of %s is replaced by a new one for %d classes.", config.init_from, num_classes)
        fresh = traverse_util.flatten_dict(jax.device_get(state.raw_variables()), sep="/")
        arrays |= {tensor.path: fresh[tensor.path] for tensor in weights.metadata.table if tensor.is_classifier}
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    put = lambda: jax.device_put(variables, sharding)  # the state is donated, so each use needs its own buffers
    return dataclasses.replace(state, **put(), ema=None if state.ema is None else put())


def freeze_statistics(model: Network, config: ConfigDict) -> Network:
    """Returns the model with the BatchNorm statistics of the frozen parts, or of all parts, frozen in training.

    Raises:
      ConfigError: the network has fewer parts than that, or has no BatchNorm in its head although that is to be trained.
    """
    parts = _num_parts(config)
    if not 0 <= config.finetune.frozen_stages < parts:
        raise ConfigError(
            f"config.finetune.frozen_stages={config.finetune.frozen_stages}: {config.model.variant} has the stem and "
            f"{parts - 2} stages, 0 to {parts - 1} can be frozen"
        )
    frozen = config.finetune.frozen_stages
    if config.finetune.trained == CLASSIFIER_AND_LAST_NORM:
        if model.architecture.head is None:
            raise ConfigError(
                f"config.finetune.trained={CLASSIFIER_AND_LAST_NORM!r}: the last BatchNorm of {config.model.variant} is inside "
                "a block. Take a network with a convolution in its head, or config.finetune.frozen_stages"
            )
        frozen = parts - 1
    return model.clone(frozen_norm_parts=parts if config.finetune.frozen_batch_norm else frozen)


def limit_updates(tx: optax.GradientTransformation, config: ConfigDict) -> optax.GradientTransformation:
    """Returns the optimizer with each part's updates multiplied by its factor, 0 for frozen parts.

    Part p of P learns at `stage_lr_factor ** (P - 1 - p)` times the scheduled rate. The optimizers here have the learning rate
    inside the momentum buffer, so scaling the updates equals scaling the rate.
    """
    settings, parts = config.finetune, _num_parts(config)
    if settings.trained == CLASSIFIER_AND_LAST_NORM:
        return optax.chain(tx, optax.stateless(_only_classifier_and_last_norm))
    if settings.frozen_stages == 0 and settings.stage_lr_factor == 1:
        return tx
    factors = [
        0.0 if part < settings.frozen_stages else settings.stage_lr_factor ** (parts - 1 - part)
        for part in range(parts)
    ]

    def scale(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        del params
        updates = cast(dict, updates)  # Optax's type is that of any pytree
        return {module: optax.tree.scale(factors[_part(module, parts)], leaves) for module, leaves in updates.items()}

    return optax.chain(tx, optax.stateless(scale))


def _only_classifier_and_last_norm(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
    del params
    updates = cast(dict, updates)  # Optax's type is that of any pytree
    nothing = optax.tree.zeros_like(updates)
    return {**nothing, "head": {**updates["head"], "conv": nothing["head"]["conv"]}}


def _num_parts(config: ConfigDict) -> int:
    """Returns the number of parts: the stem, the stages and the head."""
    return architecture(config.model.variant).blocks[-1].stage + 3


def _part(module: str, parts: int) -> int:
    """Returns the part of a module from its name, such as "stem", "blocks_2_0" or "head"."""
    if module.startswith("blocks_"):
        return int(module.split("_")[1]) + 1
    return {"stem": 0, "head": parts - 1}[module]


def _log_differences(weights: Weights, config: ConfigDict) -> None:
    logging.info("Starting from %s", weights.describe())
    metadata, ours = weights.metadata, Preprocessing.of_config(config.data)
    bn_epsilon = with_family_defaults(config.model).bn_epsilon
    if metadata.bn_epsilon != bn_epsilon:
        raise ConfigError(
            f"{config.init_from} was trained with bn_epsilon {metadata.bn_epsilon}, "
            f"config.model.bn_epsilon is {bn_epsilon}"
        )
    if (metadata.preprocessing.mean_rgb, metadata.preprocessing.stddev_rgb) != (ours.mean_rgb, ours.stddev_rgb):
        logging.warning(
            "%s was trained with mean %s and deviation %s, this run uses %s and %s.",
            config.init_from,
            metadata.preprocessing.mean_rgb,
            metadata.preprocessing.stddev_rgb,
            ours.mean_rgb,
            ours.stddev_rgb,
        )
