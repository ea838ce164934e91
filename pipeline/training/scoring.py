"""Measures the exact accuracy of weights on a dataset.

Network, image size, crop and normalisation come with the weights. The configuration only names the dataset and the batch size.
The evaluation step is the one that training uses, so a run and its exported weights are measured alike.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from configs import recipe
from pipeline.errors import ConfigError, DataError
from pipeline.model.layers.inputs import normalize_images
from pipeline.training.evaluation import evaluate
from pipeline.training.experiment import Experiment
from pipeline.training.update.step import Batch
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata


def score(config: ConfigDict, weights: Mapping[str, Weights]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates weights on `config.data.eval_split`.

    Args:
      config: A configuration with the structure of `configs/recipe.py`.
      weights: Weights by name, such as "ema" and "raw", all of one network and one preprocessing.

    Returns:
      The result as JSON values, and the counts of (label, prediction) pairs for each name, int64 `[classes, classes]`. The
      counts are empty without `config.evaluation.confusion`.

    Raises:
      ConfigError: the classes of the dataset are not those of the weights.
      DataError: the dataset is missing or damaged, or a loss is not finite with these weights.
    """
    first = next(iter(weights.values()))
    metadata = first.metadata
    experiment = Experiment.from_config(configure(config, metadata))
    _check_classes(first, experiment)
    put = functools.partial(jax.device_put, device=experiment.replicated)
    variables = {name: put(found.variables()) for name, found in weights.items()}
    counts: dict[str, jax.Array] = {}
    batches = experiment.eval_batches()
    if config.evaluation.confusion:
        batches = _counting(experiment, variables, batches, counts)
    results = evaluate(experiment.eval_step, variables, batches, experiment.replicated)
    _check_finite(results, weights, experiment)
    confusion = {name: np.asarray(value, np.int64) for name, value in counts.items()}
    for name, matrix in confusion.items():
        results[name]["per_class"] = _per_class(matrix, metadata)
    examples = next(iter(results.values()))["examples"]
    return {
        "source": metadata.source,
        "step": metadata.step,
        "variant": metadata.variant,
        "dataset": experiment.eval_source.name,
        "split": config.data.eval_split,
        "damaged": len(experiment.eval_source) - examples,
        "image_size": metadata.image_size,
        "dtype": config.model.dtype,
        **dataclasses.asdict(metadata.preprocessing),
        "evaluation": results,
    }, confusion


def configure(config: ConfigDict, metadata: Metadata) -> ConfigDict:
    """Returns the configuration with the network, the image size and the preprocessing of the weights."""
    config = config.copy_and_resolve_references()
    config.image_size = config.evaluation.image_size = metadata.image_size
    config.progressive = recipe.get_config().progressive  # of training, which may have been another network's
    config.model.variant = metadata.variant
    config.model.bn_epsilon = metadata.bn_epsilon
    for field in dataclasses.fields(metadata.preprocessing):
        config.data[field.name] = getattr(metadata.preprocessing, field.name)
    return config


def _check_finite(results: Mapping[str, dict], weights: Mapping[str, Weights], experiment: Experiment) -> None:
    for name, result in results.items():
        if not result["examples"]:
            raise DataError(
                f"none of the {len(experiment.eval_source):,} images of {experiment.eval_source.name} can be read"
            )
        if not math.isfinite(result["loss"]):
            raise DataError(f"{weights[name].where}: with these weights the network's outputs are not finite numbers")


def _check_classes(weights: Weights, experiment: Experiment) -> None:
    source, metadata, where = experiment.eval_source, weights.metadata, weights.where
    if source.num_classes != metadata.num_classes:
        hint = "; pipeline.convert --drop_background leaves out the background" if metadata.num_classes == 1001 else ""
        raise ConfigError(
            f"{where} has {metadata.num_classes} classes and {source.name} has {source.num_classes}{hint}"
        )
    ours, theirs = metadata.class_names, tuple(source.class_names)
    if ours and ours != theirs and set(ours) == set(theirs):
        label = next(label for label, (one, other) in enumerate(zip(ours, theirs)) if one != other)
        raise ConfigError(
            f"the classes of {source.name} are in another order than those of {where}: class {label} is "
            f"{theirs[label]!r} there and {ours[label]!r} here"
        )
    if ours and ours != theirs:
        logging.warning("The classes of %s and of the weights have different names; labels are compared.", source.name)


def _counting(
    experiment: Experiment, variables: dict[str, dict], batches: Iterable[Batch], counts: dict[str, jax.Array]
) -> Iterator[Batch]:
    """Yields the batches and counts their (label, prediction) pairs on the way."""
    config, classes = experiment.config, experiment.hparams.num_classes

    def count(variables: dict, batch: Batch, counted: jax.Array) -> jax.Array:
        dtype = jnp.dtype(config.model.dtype)
        images = normalize_images(batch["image"], config.data.mean_rgb, config.data.stddev_rgb, dtype)
        predictions = experiment.model.apply(variables, images, train=False).argmax(axis=-1)
        return counted.at[batch["label"], predictions].add((batch["weight"] > 0).astype(jnp.int32))

    step = jax.jit(count, donate_argnums=2, out_shardings=experiment.replicated)
    for name in variables:
        counts[name] = jax.device_put(jnp.zeros((classes, classes), jnp.int32), experiment.replicated)
    for batch in batches:
        for name in variables:
            counts[name] = step(variables[name], batch, counts[name])
        yield batch


def _per_class(matrix: np.ndarray, metadata: Metadata) -> list[dict[str, Any]]:
    """Returns the name, the number of examples and the accuracy of each class."""
    examples = matrix.sum(axis=1)
    return [
        {
            "label": label,
            "name": metadata.name_of(label),
            "examples": int(count),
            "top1": float(matrix[label, label] / count) if count else None,
        }
        for label, count in enumerate(examples)
    ]
