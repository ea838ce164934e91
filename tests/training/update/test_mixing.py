"""Mixup and CutMix: label weights are exactly what the pixels are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats

from pipeline.training.update import mixing

BOTH = [(0.2, 0.0), (0.0, 1.0), (0.4, 0.4)]


def labelled_batch(size, side=16, dtype=jnp.float32):
    """Example i is of class i and all its pixels are a one in channel i, so that its pixels can be read as a target."""
    targets = jnp.eye(size)
    return jnp.broadcast_to(targets[:, None, None, :], (size, side, side + 3, size)).astype(dtype), targets


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), BOTH)
@pytest.mark.parametrize("size", [1, 8])
def test_label_weights_are_the_shares_of_the_pixels(size, mixup_alpha, cutmix_alpha):
    images, targets = labelled_batch(size)
    mixed, weights = mixing.mix(
        jax.random.key(3), images, targets, jnp.ones(size, bool), mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha
    )
    np.testing.assert_allclose(np.asarray(mixed, np.float64).mean(axis=(1, 2)), weights, atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    if size > 1:
        assert len(np.unique(np.round(np.diagonal(weights), 6))) > size // 2, "one draw for each example"
        partner = np.roll(np.eye(size), 1, axis=0)
        assert np.all(np.where(partner + np.eye(size), 0, weights) == 0)


def test_smoothed_targets_are_mixed_not_smoothed_again():
    images, targets = labelled_batch(8)
    key, mask = jax.random.key(0), jnp.ones(8, bool)
    _, plain = mixing.mix(key, images, targets, mask, mixup_alpha=0.2, cutmix_alpha=0.0)
    _, smooth = mixing.mix(key, images, 0.9 * targets + 0.1 / 8, mask, mixup_alpha=0.2, cutmix_alpha=0.0)
    np.testing.assert_allclose(smooth, 0.9 * plain + 0.1 / 8, atol=1e-6)


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), BOTH)
def test_examples_without_weight_stay_apart(mixup_alpha, cutmix_alpha):
    images, targets = labelled_batch(8)
    mask = jnp.arange(8) != 2
    mixed, weights = mixing.mix(
        jax.random.key(1), images, targets, mask, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha
    )
    assert np.array_equal(mixed[2:4], images[2:4])
    assert np.array_equal(weights[2:4], targets[2:4])
    assert not np.array_equal(weights, targets)


def test_off_changes_nothing():
    images, targets = labelled_batch(8)
    mixed = mixing.mix(jax.random.key(0), images, targets, jnp.ones(8, bool), mixup_alpha=0.0, cutmix_alpha=0.0)
    assert mixed[0] is images
    assert mixed[1] is targets


def test_keeps_types():
    images, targets = labelled_batch(8, dtype=jnp.bfloat16)
    mixed, weights = mixing.mix(
        jax.random.key(0), images, targets, jnp.ones(8, bool), mixup_alpha=0.2, cutmix_alpha=1.0
    )
    assert mixed.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(mixed.astype(jnp.float32).mean(axis=(1, 2)), weights, atol=4e-3)


def test_mixup_shares_are_beta_distributed():
    shares = np.asarray(mixing.mixup_lam(jax.random.key(0), 20_000, 0.3))
    folded = lambda value: stats.beta(0.3, 0.3).cdf(value) * 2  # min(x, 1 - x) of a symmetric distribution
    assert stats.kstest(shares, folded).pvalue > 1e-3


def test_cutmix_boxes_are_boxes_of_beta_distributed_area():
    boxes = np.asarray(mixing.cutmix_boxes(jax.random.key(0), 3000, 64, 48, 1.0))
    rows, columns = boxes.any(axis=2), boxes.any(axis=1)
    assert np.array_equal(boxes, rows[:, :, None] & columns[:, None, :])
    assert np.all(np.abs(np.diff(rows.astype(int), axis=1)).sum(axis=1) <= 2), "one interval"
    inside = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]) & rows.any(axis=1)
    sides = rows.sum(axis=1)[inside] / 64 - columns.sum(axis=1)[inside] / 48
    assert np.abs(sides).max() <= 1 / 64 + 1 / 48, "the image's shape"
    # A side s = sqrt(u) cut at the borders around a uniform centre keeps s - s^2 / 4 on average; u is uniform here.
    assert abs(rows.mean() - (2 / 3 - 1 / 8)) < 0.015
    assert abs(boxes.mean() - (1 / 2 - 1 / 5 + 1 / 48)) < 0.015


def test_is_the_same_on_any_number_of_devices():
    images, targets = labelled_batch(8)
    mask = jnp.arange(8) != 5
    step = jax.jit(lambda *batch: mixing.mix(jax.random.key(7), *batch, mixup_alpha=0.2, cutmix_alpha=1.0))
    alone = step(images, targets, mask)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put((images, targets, mask), NamedSharding(mesh, PartitionSpec("data")))
    for one, many in zip(alone, step(*split)):
        np.testing.assert_allclose(one, many, atol=1e-6)  # only sums may be rounded otherwise
