"""The train step: a pure function from a state and a batch to the next state and the loss, built once for a recipe.

It knows nothing of devices. The caller shards the batch and replicates the state, and the compiler derives the collectives. The
loss and everything after the logits is float32. Randomness follows from (seed, step).
"""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from pipeline.model.layers.inputs import normalize_images
from pipeline.model.network import Network
from pipeline.training.update.metrics import TrainMetrics
from pipeline.training.update.mixing import mix
from pipeline.training.update.state import TrainState

# "image" uint8 [batch, height, width, 3], "label" int32 [batch], "weight" float32 [batch], "record" int32 [batch]
Batch = dict[str, jax.Array]


Norms = dict[str, jax.Array]  # "l2_params" and "l2_updates", float32 []
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, jax.Array] | tuple[TrainState, jax.Array, Norms]]


def make_train_step(config: ConfigDict, model: Network, tx: optax.GradientTransformation) -> TrainStep:
    """Returns the step function `(state, batch) -> (new state, loss)`; the loss is float32 [].

    With `config.log.norms`, a third result has the l2 norms of the new parameters and of what was added to the old ones. They
    are of all parameters together, trained or not, and no part of the state.

    With p the parameters, q the smoothed (and mixed) targets and w the images of positive weight:

        loss = mean over w of cross_entropy(logits(p), q) + weight_decay * l2(p)

    An image of weight 0, which could not be decoded, takes no part in it.
    """
    dtype = jnp.dtype(config.model.dtype)
    mean_rgb, stddev_rgb = config.data.mean_rgb, config.data.stddev_rgb
    label_smoothing, weight_decay = config.loss.label_smoothing, config.loss.weight_decay
    mixing = {key: config.loss[key] for key in ("mixup_alpha", "cutmix_alpha", "mix_semantics")}
    ema_decay, seed = config.ema.decay, config.seed
    decayed = model.architecture.family.weight_decay
    with_norms = config.log.norms

    def train_step(state: TrainState, batch: Batch):
        dropout_rng, mix_rng = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        images = normalize_images(batch["image"], mean_rgb, stddev_rgb, dtype)
        mask = batch["weight"] > 0
        targets = smoothed_targets(batch["label"], model.num_classes, label_smoothing)
        images, targets = mix(mix_rng, images, targets, mask, **mixing)

        def loss_of(params: dict) -> tuple[jax.Array, tuple[jax.Array, dict]]:
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": dropout_rng},
                mutable=["batch_stats"],
            )
            batch_stats = cast(dict, updates["batch_stats"])  # Flax's type also allows the FrozenDict of its past
            cross_entropy = optax.losses.softmax_cross_entropy(logits, targets)
            mean_cross_entropy = jnp.sum(cross_entropy * mask) / jnp.maximum(jnp.sum(mask), 1)
            return mean_cross_entropy + weight_decay * l2(params, decayed), (logits, batch_stats)

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = cast(dict, optax.apply_updates(state.params, updates))  # Optax's type is that of any pytree
        step = state.step + 1
        gradient_norm = optax.tree.norm(gradients)
        metrics = TrainMetrics.single_from_model_output(
            loss=loss,
            correct=jnp.argmax(logits, -1) == batch["label"],
            gradient_norm=gradient_norm,
            records=batch["record"],
            nonfinite=~(jnp.isfinite(loss) & jnp.isfinite(gradient_norm)),
            step=step,
            mask=mask,
        )
        new_state = TrainState(
            step=step,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=update_ema(state.ema, {"params": params, "batch_stats": batch_stats}, step, ema_decay),
            metrics=state.metrics.merge(metrics),
        )
        if with_norms:
            return new_state, loss, {"l2_params": optax.tree.norm(params), "l2_updates": optax.tree.norm(updates)}
        return new_state, loss

    return train_step


def smoothed_targets(labels: jax.Array, num_classes: int, label_smoothing: float) -> jax.Array:
    """Returns class probabilities, float32 `[batch, num_classes]`: one-hot, mixed with the uniform distribution."""
    return optax.losses.smooth_labels(jax.nn.one_hot(labels, num_classes, dtype=jnp.float32), label_smoothing)


def l2(params: dict, decayed: str = "all_but_norm") -> jax.Array:
    """Returns sum(p ** 2) / 2 over the parameters p that L2 regularisation covers, float32 [].

    Args:
      params: The network's parameters.
      decayed: Which parameters count. "all_but_norm" includes biases, because EfficientNet's code excludes only names with
        'batch_normalization'. The others are "kernels" (EfficientNetV2) and "kernels_but_depthwise" (MobileNet).
    """
    covers = {
        "all_but_norm": lambda path: not is_batch_norm(path),
        "kernels": lambda path: path[-1].key == "kernel",
        "kernels_but_depthwise": lambda path: path[-1].key == "kernel" and path[-2].key != "depthwise_conv",
    }[decayed]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    terms = (0.5 * jnp.sum(jnp.square(leaf)) for path, leaf in leaves if covers(path))
    return cast(jax.Array, sum(terms))  # the type of `sum` has the 0 that no terms would give


def is_batch_norm(path: tuple) -> bool:
    """Returns whether the parameter at a path of keys belongs to a BatchNorm, a module named `bn` or `…_bn`."""
    return path[-2].key.endswith("bn")


def update_ema(ema: dict | None, values: dict, step: jax.Array, decay: float) -> dict | None:
    """Returns the moving averages after a step; `step` counts from 1.

        d = min(decay, (1 + step) / (10 + step))
        average = d * average + (1 - d) * value

    This is TF1's `ExponentialMovingAverage` with `num_updates`. A decay of 0.9999 is reached at step 89,990.
    """
    if ema is None:
        return None
    step = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda average, value: average - (1 - d) * (average - value), ema, values)
