"""The published learning-rate schedules and optimizers, as optax transformations.

L2 regularisation is in the loss (`step.py`), as in the recipe, so it passes through RMSProp's denominator. Steps count from 0:
the first update uses the learning rate of step 0, as in TensorFlow 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.training.update.lars import lars

Schedule = Callable[[ArrayLike], jax.Array]  # an `optax.Schedule`


def make_schedule(config: ConfigDict, hparams: Hyperparameters) -> Schedule:
    """Returns the learning rate as a function of the step: integers of any shape to float32 of that shape.

    The rate rises linearly from 0 to the peak in the warm-up. After it, with s the step, W the warm-up and T the total steps:

        exponential: peak * decay_rate ** floor(s / decay_every)
        cosine:      peak / 2 * (1 + cos(pi * s / T))
        polynomial:  final_lr + (peak - final_lr) * (1 - (s - W) / (T - W + 1)) ** 2
        constant:    peak

    The exponential staircase counts from step 0 and not from the end of the warm-up. Source: tensorflow/tpu,
    efficientnet/utils.py, build_learning_rate.
    """
    peak, warmup, total = hparams.peak_lr, hparams.warmup_steps, hparams.total_steps
    after_warmup = {
        "exponential": lambda step: peak * config.schedule.decay_rate ** jnp.floor(step / hparams.decay_every_steps),
        "cosine": lambda step: 0.5 * peak * (1 + jnp.cos(jnp.pi * jnp.minimum(step / total, 1))),
        "polynomial": lambda step: (
            config.schedule.final_lr
            + (peak - config.schedule.final_lr) * (1 - jnp.clip((step - warmup) / (total - warmup + 1), 0, 1)) ** 2
        ),
        "constant": lambda step: jnp.full_like(step, peak),
    }
    decayed = after_warmup[config.schedule.name]

    def schedule(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        return jnp.where(step < warmup, peak * step / max(warmup, 1), decayed(step)).astype(jnp.float32)

    return schedule


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer named by `config.optimizer.name`.

    "rmsprop" is TensorFlow 1's, for a gradient g, momentum m and learning rate lr; the mean square starts at 1:

        mean_square = decay * mean_square + (1 - decay) * g ** 2
        buffer = m * buffer + lr * g / sqrt(mean_square + epsilon)
        w = w - buffer

    "lars" is that of `lars.py`.
    """
    settings = config.optimizer
    makers = {
        "rmsprop": lambda: optax.rmsprop(
            schedule, decay=settings.decay, eps=settings.epsilon, initial_scale=1.0, momentum=settings.momentum
        ),
        "lars": lambda: lars(
            schedule,
            weight_decay=settings.lars_weight_decay,
            trust_coefficient=settings.trust_coefficient,
            epsilon=settings.lars_epsilon,
            momentum=settings.momentum,
        ),
    }
    return makers[settings.name]()
