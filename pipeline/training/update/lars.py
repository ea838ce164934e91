"""LARS, layer-wise adaptive rates for large batches, as the authors of EfficientNet released it.

For a kernel w with gradient g, learning rate lr, momentum m and weight decay d:

    ratio = trust_coefficient * |w| / (|g| + d * |w| + epsilon)
    buffer = m * buffer + lr * ratio * (g + d * w)
    w = w - buffer

`optax.lars` instead divides by |g + d * w|. Biases and BatchNorm have a ratio of 1 and no decay.

Sources: You, Gitman and Ginsburg, arXiv 1708.03888, equation 6; tensorflow/tpu, models/official/efficientnet,
lars_optimizer.py.
"""

import jax
import jax.numpy as jnp
import optax


def lars(
    schedule: optax.Schedule, *, weight_decay: float, trust_coefficient: float, epsilon: float, momentum: float
) -> optax.GradientTransformation:
    """Returns the optimizer.

    Args:
      schedule: The learning rate by step.
      weight_decay: Multiplies the weights; the product is added to the gradient and counts in the trust ratio. It comes on top
        of the L2 term of the loss, which is part of the gradient.
      trust_coefficient: The rate of a layer whose gradient is as large as its weights, relative to the schedule's.
      epsilon: Added to the denominator of the trust ratio.
      momentum: The decay of the buffer that holds the updates.
    """
    return optax.chain(
        scale_by_layer(weight_decay, trust_coefficient, epsilon),
        optax.scale_by_learning_rate(schedule),
        optax.trace(momentum),
    )


def scale_by_layer(weight_decay: float, trust_coefficient: float, epsilon: float) -> optax.GradientTransformation:
    """Decays each kernel and scales its update by trust_coefficient * |w| / (|g| + weight_decay * |w| + epsilon)."""

    def scale(gradient: jax.Array, weights: jax.Array) -> jax.Array:
        if weights.ndim < 2:  # biases, and BatchNorm's scale and bias
            return gradient
        weight_norm, gradient_norm = jnp.linalg.norm(weights.ravel()), jnp.linalg.norm(gradient.ravel())
        trust_ratio = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm + epsilon)
        trust_ratio = jnp.where((weight_norm > 0) & (gradient_norm > 0), trust_ratio, 1.0)
        return trust_ratio * (gradient + weight_decay * weights)

    return optax.stateless(lambda gradients, weights: jax.tree.map(scale, gradients, weights))
