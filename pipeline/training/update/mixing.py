"""Mixup and CutMix on the device, inside the step: pure functions of a key and a batch.

Each example is mixed with the row before it and has its own draw; its label weights are what its pixels are made of,
to the float. Rows, draws and results do not depend on how the batch is divided over devices. The published code takes
the row mirrored within a core's batch as partner; in a shuffled batch that is the same, and one row across is less to
move. Sources: Zhang et al., arXiv 1710.09412; Yun et al., arXiv 1905.04899; mixup in main.py of the published code.
"""

import jax
import jax.numpy as jnp


def mix(
    rng: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Mixes each example with another one; with both alphas set, a coin for each example decides how.

    Args:
        rng: A key.
        images: Normalised pixels `[batch, height, width, 3]`, any float type.
        targets: Class probabilities, float32 `[batch, classes]`; label smoothing may have been applied.
        mask: Which examples are real, bool `[batch]`; the others are neither mixed nor mixed in.
        mixup_alpha: Of the Beta distribution of mixup's weights; 0: no mixup.
        cutmix_alpha: Of the Beta distribution of CutMix's area; 0: no CutMix.

    Returns:
        Images and targets, shapes and types as given.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, targets
    coin_rng, mixup_rng, cutmix_rng = jax.random.split(rng, 3)
    batch, height, width, _ = images.shape
    lam = jnp.zeros((batch, 1, 1))  # of the partner in each pixel, float32 [batch, height or 1, width or 1]
    if mixup_alpha:
        lam = mixup_lam(mixup_rng, batch, mixup_alpha)[:, None, None]
    if cutmix_alpha:
        boxes = cutmix_boxes(cutmix_rng, batch, height, width, cutmix_alpha).astype(jnp.float32)
        use_boxes = jax.random.bernoulli(coin_rng, 0.5 if mixup_alpha else 1.0, (batch, 1, 1))
        lam = jnp.where(use_boxes, boxes, lam)
    lam = lam * (mask & jnp.roll(mask, 1))[:, None, None]
    partner = jnp.roll(images, 1, axis=0)
    mixed = images + lam[..., None] * (partner.astype(jnp.float32) - images)
    weight = jnp.mean(lam, axis=(1, 2))[:, None]
    return mixed.astype(images.dtype), targets + weight * (jnp.roll(targets, 1, axis=0) - targets)


def mixup_lam(rng: jax.Array, batch: int, alpha: float) -> jax.Array:
    """Draws the partners' weights, float32 `[batch]`: at most 1/2, as the published code keeps the larger one."""
    weight = jax.random.beta(rng, alpha, alpha, (batch,))
    return jnp.minimum(weight, 1 - weight)


def cutmix_boxes(rng: jax.Array, batch: int, height: int, width: int, alpha: float) -> jax.Array:
    """Draws the pixels that the partner gives, bool `[batch, height, width]`.

    A box of the image's shape and a Beta-distributed share of its area, around a uniform centre, cut at the borders.
    """
    area_rng, row_rng, column_rng = jax.random.split(rng, 3)
    side = jnp.sqrt(jax.random.beta(area_rng, alpha, alpha, (batch, 1)))
    rows = _interval(jax.random.uniform(row_rng, (batch, 1)), side, height)
    columns = _interval(jax.random.uniform(column_rng, (batch, 1)), side, width)
    return rows[:, :, None] & columns[:, None, :]


def _interval(centre: jax.Array, side: jax.Array, length: int) -> jax.Array:
    """Says which of `length` pixels have their middle in an interval given in shares of the length."""
    middles = (jnp.arange(length) + 0.5) / length
    return jnp.abs(middles - centre) < side / 2
