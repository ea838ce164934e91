"""Mixup and CutMix on the device, inside the step: pure functions of a key and a batch.

Each example x is mixed with its partner x', the row before it, with its own draw of lam:

    x = (1 - lam) * x + lam * x'            lam is 0 or 1 for each pixel in CutMix
    target = (1 - mean(lam)) * target + mean(lam) * target'

Rows, draws and results do not depend on how the batch is divided over devices. The published code's partner is the mirrored
row of a core's batch. In a shuffled batch that is equivalent, and the row before needs less communication. With "clean"
semantics, an example's label weights follow from its own pixels. With "published" all examples of CutMix have the mean of
their weights, as in EfficientNetV2's code. Sources: Zhang et al., arXiv 1710.09412; Yun et al., arXiv 1905.04899;
google/automl, efficientnetv2/datasets.py.
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
    mix_semantics: str,
) -> tuple[jax.Array, jax.Array]:
    """Mixes each example with another one; with both alphas set, the first half by mixup and the second by CutMix.

    Args:
        rng: A key.
        images: Normalised pixels `[batch, height, width, 3]`, any float type.
        targets: Class probabilities, float32 `[batch, classes]`; label smoothing may have been applied.
        mask: Whether each example is real, bool `[batch]`; the others are not mixed.
        mixup_alpha: Parameter of the Beta distribution of mixup's weights; 0: no mixup.
        cutmix_alpha: Parameter of the Beta distribution of CutMix's area; 0: no CutMix.
        mix_semantics: "clean" or "published".

    Returns:
        Images and targets, of the given shapes and dtypes.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, targets
    _, mixup_rng, cutmix_rng = jax.random.split(rng, 3)
    batch, height, width, _ = images.shape
    by_cutmix = jnp.arange(batch) >= (batch // 2 if mixup_alpha else 0)
    weight = mixup_lam(mixup_rng, batch, mixup_alpha) if mixup_alpha else jnp.zeros(batch)  # of the partner's label
    lam = weight[:, None, None]  # the partner's share of each pixel, float32 [batch, height or 1, width or 1]
    if cutmix_alpha:
        boxes = cutmix_boxes(cutmix_rng, batch, height, width, cutmix_alpha).astype(jnp.float32)
        lam = jnp.where(by_cutmix[:, None, None], boxes, lam)
        weight = jnp.where(by_cutmix, jnp.mean(boxes, axis=(1, 2)), weight)  # a mean over equal lam would round them
    mixes = mask & jnp.roll(mask, 1)
    lam, weight = lam * mixes[:, None, None], weight * mixes
    partner = jnp.roll(images, 1, axis=0)
    mixed = images + lam[..., None] * (partner.astype(jnp.float32) - images)
    if cutmix_alpha and mix_semantics == "published":
        cut = by_cutmix & mixes
        weight = jnp.where(cut, jnp.sum(weight * cut) / jnp.maximum(jnp.sum(cut), 1), weight)
    weight = weight[:, None]
    return mixed.astype(images.dtype), targets + weight * (jnp.roll(targets, 1, axis=0) - targets)


def mixup_lam(rng: jax.Array, batch: int, alpha: float) -> jax.Array:
    """Draws the partners' weights, float32 `[batch]`; at most 1/2, because the published code keeps the larger one."""
    weight = jax.random.beta(rng, alpha, alpha, (batch,))
    return jnp.minimum(weight, 1 - weight)


def cutmix_boxes(rng: jax.Array, batch: int, height: int, width: int, alpha: float) -> jax.Array:
    """Draws the boxes of pixels from the partner, bool `[batch, height, width]`.

    A box has the image's aspect ratio, a Beta-distributed share of its area and a uniform centre; it is clipped at the borders.
    """
    area_rng, row_rng, column_rng = jax.random.split(rng, 3)
    side = jnp.sqrt(jax.random.beta(area_rng, alpha, alpha, (batch, 1)))
    rows = _interval(jax.random.uniform(row_rng, (batch, 1)), side, height)
    columns = _interval(jax.random.uniform(column_rng, (batch, 1)), side, width)
    return rows[:, :, None] & columns[:, None, :]


def _interval(centre: jax.Array, side: jax.Array, length: int) -> jax.Array:
    """Returns which of `length` pixels have their centre in an interval that is given in shares of the length."""
    middles = (jnp.arange(length) + 0.5) / length
    return jnp.abs(middles - centre) < side / 2
