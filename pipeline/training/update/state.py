"""The train state: everything that the next step depends on besides the batch, and nothing else.

A checkpoint stores this structure. Randomness follows from (seed, step) and needs no field. One compiled function creates the
state directly in its final sharding.
"""

from typing import cast

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from pipeline.training.update.metrics import TrainMetrics


@flax.struct.dataclass
class TrainState:
    """The state after `step` steps."""

    step: jax.Array  # shape=(), dtype=int32
    params: dict  # float32
    batch_stats: dict  # float32; running mean and variance of every BatchNorm
    opt_state: optax.OptState
    ema: dict | None  # {"params", "batch_stats"}, float32: their exponential moving averages; None without EMA
    metrics: TrainMetrics  # sums since the last report

    def raw_variables(self) -> dict:
        """Returns the variables after the last step, not averaged."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    image_size: int,
    seed: int,
    with_ema: bool,
    sharding: jax.sharding.Sharding | None = None,
) -> TrainState:
    """Returns the state at step 0, on the devices of `sharding`.

    The moving averages start at the initial values (TF1's `ExponentialMovingAverage`), not at zero.
    """
    return jax.jit(_initializer(model, tx, image_size, with_ema), out_shardings=sharding)(jax.random.key(seed))


def abstract_state(
    model: nn.Module, tx: optax.GradientTransformation, *, image_size: int, with_ema: bool
) -> TrainState:
    """Returns the state's shapes and dtypes without computing anything."""
    return jax.eval_shape(_initializer(model, tx, image_size, with_ema), jax.random.key(0))


def _initializer(model: nn.Module, tx: optax.GradientTransformation, image_size: int, with_ema: bool):
    def initialize(rng: jax.Array) -> TrainState:
        # Flax's type also allows the FrozenDict of its past.
        variables = cast(dict, model.init(rng, jnp.zeros((1, image_size, image_size, 3)), train=False))
        params, batch_stats = variables["params"], variables["batch_stats"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=tx.init(params),
            ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if with_ema else None,
            metrics=TrainMetrics.empty(),
        )

    return initialize
