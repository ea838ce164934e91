"""Mixup and CutMix: label weights are exactly what the pixels are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats

from pipeline.training.update import mixing

BOTH = [(0.2, 0.0), (0.0, 1.0), (0.4, 0.4)]


def mix(*arguments, mixup_alpha, cutmix_alpha, mix_semantics="clean"):
    return mixing.mix(*arguments, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, mix_semantics=mix_semantics)


def labelled_batch(size, side=16, dtype=jnp.float32):
    """Example i is of class i and all its pixels are a one in channel i, so that its pixels can be read as a target."""
    targets = jnp.eye(size)
    return jnp.broadcast_to(targets[:, None, None, :], (size, side, side + 3, size)).astype(dtype), targets


@pytest.mark.slow
@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), BOTH)
@pytest.mark.parametrize("size", [1, 8])
def test_label_weights_are_the_shares_of_the_pixels(size, mixup_alpha, cutmix_alpha):
    images, targets = labelled_batch(size)
    mixed, weights = mix(
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
    _, plain = mix(key, images, targets, mask, mixup_alpha=0.2, cutmix_alpha=0.0)
    _, smooth = mix(key, images, 0.9 * targets + 0.1 / 8, mask, mixup_alpha=0.2, cutmix_alpha=0.0)
    np.testing.assert_allclose(smooth, 0.9 * plain + 0.1 / 8, atol=1e-6)


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), BOTH)
def test_examples_without_weight_stay_apart(mixup_alpha, cutmix_alpha):
    images, targets = labelled_batch(8)
    mask = jnp.arange(8) != 2
    mixed, weights = mix(jax.random.key(1), images, targets, mask, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    assert np.array_equal(mixed[2:4], images[2:4])
    assert np.array_equal(weights[2:4], targets[2:4])
    assert not np.array_equal(weights, targets)


def test_off_changes_nothing():
    images, targets = labelled_batch(8)
    mixed = mix(jax.random.key(0), images, targets, jnp.ones(8, bool), mixup_alpha=0.0, cutmix_alpha=0.0)
    assert mixed[0] is images
    assert mixed[1] is targets


def test_keeps_types():
    images, targets = labelled_batch(8, dtype=jnp.bfloat16)
    mixed, weights = mix(jax.random.key(0), images, targets, jnp.ones(8, bool), mixup_alpha=0.2, cutmix_alpha=1.0)
    assert mixed.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(mixed.astype(jnp.float32).mean(axis=(1, 2)), weights, atol=4e-3)


def test_mixup_shares_are_beta_distributed():
    shares = np.asarray(mixing.mixup_lam(jax.random.key(0), 20_000, 0.3))
    folded = lambda value: stats.beta(0.3, 0.3).cdf(value) * 2  # min(x, 1 - x) of a symmetric distribution
    assert stats.kstest(shares, folded).pvalue > 1e-3


@pytest.mark.slow
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


@pytest.mark.slow
def test_is_the_same_on_any_number_of_devices():
    images, targets = labelled_batch(8)
    mask = jnp.arange(8) != 5
    step = jax.jit(lambda *batch: mix(jax.random.key(7), *batch, mixup_alpha=0.2, cutmix_alpha=1.0))
    alone = step(images, targets, mask)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put((images, targets, mask), NamedSharding(mesh, PartitionSpec("data")))
    for one, many in zip(alone, step(*split)):
        np.testing.assert_allclose(one, many, atol=1e-6)  # only sums may be rounded otherwise


def halves(mixup_alpha, cutmix_alpha, mix_semantics, size=64):
    """Returns the partners' share in each pixel of a labelled batch, and their label weights."""
    images, targets = labelled_batch(size)
    arguments = (jax.random.key(2), images, targets, jnp.ones(size, bool))
    mixed, weights = mix(*arguments, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, mix_semantics=mix_semantics)
    shares = np.asarray(mixed)[np.arange(size), :, :, np.arange(size) - 1]  # of the partner, for each pixel
    return shares, np.asarray(weights)[np.arange(size), np.arange(size) - 1]


@pytest.mark.slow
@pytest.mark.parametrize("mix_semantics", ["clean", "published"])
def test_the_first_half_is_mixed_by_mixup_and_the_second_by_cutmix(mix_semantics):
    shares, _ = halves(0.4, 1.0, mix_semantics)
    assert np.all(shares[:32].std(axis=(1, 2)) < 1e-6)
    assert len(np.unique(shares[:32, 0, 0])) > 30, "a draw for each example"
    assert np.isin(shares[32:], (0, 1)).all()
    areas = shares[32:].mean(axis=(1, 2))
    assert len(np.unique(areas)) > 20, "a box for each example"


def test_published_labels_of_cutmix_are_the_mean_over_its_half():
    shares, weights = halves(0.4, 1.0, "published")
    areas = shares.mean(axis=(1, 2))
    np.testing.assert_allclose(weights[:32], areas[:32], atol=1e-6)
    np.testing.assert_allclose(weights[32:], areas[32:].mean(), atol=1e-6)
    assert np.ptp(areas[32:]) > 0.5
    shares, weights = halves(0.0, 1.0, "published")  # the whole batch, when it is CutMix's alone
    np.testing.assert_allclose(weights, shares.mean(), atol=1e-6)
    _, clean = halves(0.4, 0.0, "clean")
    _, published = halves(0.4, 0.0, "published")
    assert np.array_equal(clean, published), "mixup has one meaning"


def test_what_is_not_mixed_does_not_count_for_the_published_mean():
    images, targets = labelled_batch(8)
    mask = jnp.arange(8) != 5
    mixed, weights = mix(
        jax.random.key(1), images, targets, mask, mixup_alpha=0.0, cutmix_alpha=1.0, mix_semantics="published"
    )
    shares = np.asarray(mixed).mean(axis=(1, 2))[np.arange(8), np.arange(8) - 1]
    mixes = np.array([0, 1, 2, 3, 4, 7])
    np.testing.assert_allclose(np.asarray(weights)[mixes, mixes - 1], shares[mixes].mean(), atol=1e-6)
    assert np.array_equal(weights[5:7], targets[5:7])
