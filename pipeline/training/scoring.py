"""Measures the exact accuracy of weights on a dataset.

Network, image size, crop and normalisation come with the weights. The configuration only names the dataset and the batch size.
The evaluation step is the one that training uses, so a run and its exported weights are measured alike.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from configs import recipe
from pipeline.errors import ConfigError, DataError
from pipeline.training.evaluation import computed, eval_metrics, evaluate, make_forward_step
from pipeline.training.experiment import Experiment
from pipeline.training.update.metrics import EvalMetrics
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
    counts: dict[str, np.ndarray] = {}
    if config.evaluation.confusion:
        results, counts = _evaluate_and_count(experiment, variables)
    else:
        results = evaluate(experiment.eval_step, variables, experiment.eval_batches(), experiment.replicated)
    _check_finite(results, weights, experiment)
    evaluation: dict[str, dict[str, Any]] = {name: {**values} for name, values in results.items()}
    for name, matrix in counts.items():
        evaluation[name]["per_class"] = _per_class(matrix, metadata)
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
        "evaluation": evaluation,
    }, counts


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


def _evaluate_and_count(
    experiment: Experiment, variables: dict[str, dict]
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Evaluates, and counts the (label, prediction) pairs of the same logits: int64 `[classes, classes]` for each name."""
    classes, everywhere = experiment.hparams.num_classes, experiment.replicated
    forward_step = make_forward_step(experiment.config, experiment.model)

    def step(variables: dict, batch: Batch, sums: EvalMetrics, counts: jax.Array) -> tuple[EvalMetrics, jax.Array]:
        logits, mask = forward_step(variables, batch), batch["weight"] > 0
        sums = sums.merge(eval_metrics(logits, batch["label"], mask))
        return sums, counts.at[batch["label"], logits.argmax(axis=-1)].add(mask.astype(jnp.int32))

    step = jax.jit(step, donate_argnums=(2, 3), out_shardings=everywhere)
    start = jax.jit(lambda: (EvalMetrics.empty(), jnp.zeros((classes, classes), jnp.int32)), out_shardings=everywhere)
    found = {name: start() for name in variables}
    for batch in experiment.eval_batches():
        found = {name: step(variables[name], batch, *found[name]) for name in variables}
    counts = {name: np.asarray(matrix, np.int64) for name, (_, matrix) in found.items()}
    return computed({name: sums for name, (sums, _) in found.items()}), counts


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
