"""Exact evaluation: every example of a split counts once, for any split size, batch size and number of hosts.

The last batches are padded with examples of weight 0, so that every host has the same number of batches. All sums are masked.
EMA and raw weights are evaluated on the same batches.
"""

from collections.abc import Callable, Iterable
from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from pipeline.model.layers.inputs import normalize_images
from pipeline.training.update.metrics import EvalMetrics
from pipeline.training.update.step import Batch

EvalStep = Callable[[dict, Batch, EvalMetrics], EvalMetrics]


def make_forward_step(config: ConfigDict, model: nn.Module) -> Callable[[dict, Batch], jax.Array]:
    """Returns the function `(variables, batch) -> logits`, float32 `[batch, classes]`."""
    dtype = jnp.dtype(config.model.dtype)
    mean_rgb, stddev_rgb = config.data.mean_rgb, config.data.stddev_rgb

    def forward_step(variables: dict, batch: Batch) -> jax.Array:
        images = normalize_images(batch["image"], mean_rgb, stddev_rgb, dtype)
        return cast(jax.Array, model.apply(variables, images, train=False))  # a tuple only with `mutable`

    return forward_step


def make_eval_step(config: ConfigDict, model: nn.Module) -> EvalStep:
    """Returns the function `(variables, batch, sums) -> sums` for one batch."""
    forward_step = make_forward_step(config, model)

    def eval_step(variables: dict, batch: Batch, sums: EvalMetrics) -> EvalMetrics:
        logits = forward_step(variables, batch)
        return sums.merge(eval_metrics(logits, batch["label"], batch["weight"] > 0))

    return eval_step


def eval_metrics(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> EvalMetrics:
    """Returns the sums of one batch: logits float32 `[batch, classes]`, labels int32 `[batch]`, mask bool `[batch]`.

    An example is correct in its top k if fewer than k other classes score at least as high as its label. So ties and logits
    that are NaN count as wrong.
    """
    label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    rivals = jnp.sum(~(logits < label_logits), axis=-1) - 1
    return EvalMetrics.single_from_model_output(
        loss=optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels),
        top1=rivals < 1,
        top5=rivals < 5,
        mask=mask,
    )


def evaluate(
    eval_step: EvalStep,
    variables: dict[str, dict],
    batches: Iterable[Batch],
    sharding: jax.sharding.Sharding | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluates several sets of weights on one pass over the data.

    Args:
      eval_step: the (compiled) function of `make_eval_step`.
      variables: weights by name, such as "ema" and "raw".
      batches: all batches of the split, on the devices.
      sharding: the sharding of the sums; replicated if there are several devices.

    Returns:
      The metrics of `EvalMetrics` for each name; "examples" is the number of examples that counted.
    """
    sums: dict[str, EvalMetrics] = {name: jax.jit(EvalMetrics.empty, out_shardings=sharding)() for name in variables}
    for batch in batches:
        sums = {name: eval_step(variables[name], batch, sums[name]) for name in variables}
    return computed(sums)


def computed(sums: dict[str, EvalMetrics]) -> dict[str, dict[str, float]]:
    """Returns for each name the metrics of `EvalMetrics`; "examples" is a whole number."""
    values = {name: jax.device_get(value).compute() for name, value in sums.items()}
    return {
        name: {key: int(value) if key == "examples" else float(value) for key, value in metrics.items()}
        for name, metrics in values.items()
    }
