"""Grouped BatchNorm against numpy, and against itself on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pipeline.model.layers.batch_statistics import group_size
from pipeline.model.layers.normalization import GroupedBatchNorm

BATCH = 32  # four images for each of eight devices


def _images():
    return np.random.default_rng(0).normal(2.0, 3.0, size=(BATCH, 3, 2, 5)).astype(np.float32)


def _variables():
    rng = np.random.default_rng(1)
    return {
        "params": {"scale": rng.uniform(0.5, 1.5, 5), "bias": rng.normal(size=5)},
        "batch_stats": {"mean": rng.normal(size=5), "var": rng.uniform(0.5, 1.5, 5)},
    }


def _train(bn_batch):
    """A function of variables and images: the loss of a train step and what it computes besides."""
    norm = GroupedBatchNorm(bn_batch=bn_batch, momentum=0.9)
    cotangent = np.random.default_rng(2).normal(size=_images().shape).astype(np.float32)

    def loss(params, batch_stats, images):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, updates = norm.apply(variables, images, train=True, mutable=["batch_stats"])
        return (outputs * cotangent).sum(), (outputs, updates["batch_stats"])

    return jax.value_and_grad(loss, (0, 2), has_aux=True)


@pytest.mark.slow
@pytest.mark.parametrize("bn_batch", [2, 4, 16, 32, 512])
def test_training_by_hand(bn_batch):
    images, variables = _images(), _variables()
    (_, (outputs, updated)), _ = _train(bn_batch)(variables["params"], variables["batch_stats"], images)

    groups = images.astype(np.float64).reshape(-1, min(bn_batch, BATCH), 3, 2, 5)
    mean = groups.mean(axis=(1, 2, 3), keepdims=True)
    var = ((groups - mean) ** 2).mean(axis=(1, 2, 3), keepdims=True)  # biased
    expected = (groups - mean) / np.sqrt(var + 1e-3) * variables["params"]["scale"] + variables["params"]["bias"]
    np.testing.assert_allclose(outputs, expected.reshape(images.shape), rtol=1e-4, atol=1e-4)
    old = variables["batch_stats"]
    np.testing.assert_allclose(updated["mean"], 0.9 * old["mean"] + 0.1 * mean.mean(axis=(0, 1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(updated["var"], 0.9 * old["var"] + 0.1 * var.mean(axis=(0, 1, 2, 3)), rtol=1e-5)


def test_evaluation_by_hand():
    images, variables = _images(), _variables()
    outputs = GroupedBatchNorm(bn_batch=7).apply(variables, images, train=False)
    stats, params = variables["batch_stats"], variables["params"]
    expected = (images - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["scale"] + params["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_bfloat16_images_are_float32():
    images = jnp.bfloat16(_images() + 30)  # a bfloat16 mean of 192 such values would be wrong in the third digit
    norm = GroupedBatchNorm(bn_batch=BATCH, momentum=0.0, dtype=jnp.bfloat16)
    outputs, updates = norm.apply(_variables(), images, train=True, mutable=["batch_stats"])
    assert outputs.dtype == jnp.bfloat16
    assert updates["batch_stats"]["mean"].dtype == jnp.float32
    exact = np.asarray(images.astype(jnp.float32), np.float64)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], exact.var(axis=(0, 1, 2)), rtol=1e-3)


def _on_eight_devices(bn_batch):
    """The arguments of a train step with the images over eight devices, and the compiled step."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images = jax.device_put(_images(), NamedSharding(mesh, PartitionSpec("data")))
    params, batch_stats = jax.device_put(
        (_variables()["params"], _variables()["batch_stats"]), NamedSharding(mesh, PartitionSpec())
    )
    arguments = (params, batch_stats, images)
    return arguments, jax.jit(_train(bn_batch)).lower(*arguments).compile()


@pytest.mark.slow
# Smaller than, equal to and larger than a device's share of four images.
@pytest.mark.parametrize("bn_batch", [2, 4, 8, 16, 32])
def test_eight_devices_equal_one(bn_batch):
    variables = _variables()
    alone = jax.jit(_train(bn_batch))(variables["params"], variables["batch_stats"], _images())
    arguments, compiled = _on_eight_devices(bn_batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4), compiled(*arguments), alone)


@pytest.mark.parametrize(("bn_batch", "devices"), [(8, 2), (16, 4)])
def test_moments_share_one_all_reduce_within_the_group(bn_batch, devices):
    (params, batch_stats, images), _ = _on_eight_devices(bn_batch)
    variables = {"params": params, "batch_stats": batch_stats}
    norm = GroupedBatchNorm(bn_batch=bn_batch)
    forward = jax.jit(lambda variables, images: norm.apply(variables, images, train=True, mutable=["batch_stats"])[0])
    program = forward.lower(variables, images).compile().as_text()
    reduces = [line for line in program.splitlines() if " all-reduce(" in line]
    assert len(reduces) == 1, reduces
    # The devices as a table with a row for each group; the sum is over a row.
    assert f"replica_groups=mesh['axis_0'={8 // devices},'axis_1'={devices}," in reduces[0]
    assert "{'axis_1'}" in reduces[0]
    assert "all-gather" not in program


def test_groups_that_do_not_divide_the_batch_are_an_error():
    assert group_size(32, 512) == 32
    assert group_size(32, 8) == 8
    with pytest.raises(ValueError, match=r"bn_batch=12 does not divide the batch of 32"):
        _train(12)(_variables()["params"], _variables()["batch_stats"], _images())
    with pytest.raises(ValueError, match="bn_batch=0"):
        group_size(32, 0)
