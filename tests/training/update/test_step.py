"""The train step: on one device and on eight, and its parts against hand computations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pipeline.model.network import build_model
from pipeline.training.update.metrics import NO_STEP
from pipeline.training.update.state import create_state
from pipeline.training.update.step import l2, make_train_step, smoothed_targets
from tests.configs import tiniest
from tests.record_sums import record_sum


@pytest.fixture
def config():
    """Of two blocks: most of a test's time goes into compiling its step."""
    return tiniest.get_config()


def take_step(config, batch, devices, steps=1):
    """Returns what some steps on the same batch return at last: state, loss, and norms if the configuration has them."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    model = build_model(config.model, num_classes=10)
    tx = optax.sgd(1.0)  # so that the difference of the parameters is the gradient
    state = create_state(model, tx, image_size=8, seed=0, with_ema=True, sharding=NamedSharding(mesh, P()))
    step = jax.jit(make_train_step(config, model, tx), donate_argnums=0)
    on_devices = {key: jax.device_put(value, NamedSharding(mesh, P("data"))) for key, value in batch.items()}
    for _ in range(steps):
        state, *others = step(state, on_devices)
    assert step._cache_size() == 1  # nothing is compiled a second time
    return jax.device_get((state, *others))


@pytest.mark.parametrize("bn_batch", [2, 4, 32])  # a device of eight has 4 of the 32 images
def test_eight_devices_take_the_step_of_one(config, batch, bn_batch):
    config.model.bn_batch = bn_batch
    one, loss_of_one = take_step(config, batch, devices=1)
    eight, loss_of_eight = take_step(config, batch, devices=8)
    np.testing.assert_allclose(loss_of_eight, loss_of_one, rtol=1e-6)
    for part in ("params", "batch_stats", "ema"):  # parameters moved by exactly the gradient
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
            getattr(eight, part),
            getattr(one, part),
        )


@pytest.mark.parametrize("devices", [1, 8])
def test_norms_are_those_of_all_parameters_and_of_what_was_added_to_them(config, batch, devices):
    def norm(arrays):
        return np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in jax.tree.leaves(arrays)))

    without, loss = take_step(config, batch, devices)
    config.log.norms = True
    state, loss_with, norms = take_step(config, batch, devices)
    model = build_model(config.model, num_classes=10)
    before = jax.device_get(create_state(model, optax.sgd(1.0), image_size=8, seed=0, with_ema=True).params)
    assert norms["l2_params"] == pytest.approx(norm(state.params), rel=1e-6)
    assert norms["l2_updates"] == pytest.approx(norm(jax.tree.map(np.subtract, state.params, before)), rel=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(without)  # so a run may begin or cease to report them
    np.testing.assert_allclose(loss_with, loss, rtol=1e-6)


def test_bn_batch_changes_the_step(config, batch):
    """Guards the test above: were the groups ignored, all of its cases would agree."""
    losses = []
    for bn_batch in (2, 4, 32):
        config.model.bn_batch = bn_batch
        losses.append(float(take_step(config, batch, devices=1)[1]))
    assert min(abs(a - b) for a, b in itertools.pairwise(losses)) > 1e-3


def test_an_image_of_weight_zero_takes_no_part_in_the_loss(config, batch):
    batch["weight"][5] = 0
    _, loss = take_step(config, batch, devices=8)
    batch["label"][5] = (batch["label"][5] + 1) % 10
    state, other = take_step(config, batch, devices=8)
    assert loss == other
    assert state.metrics.compute()["bad_images"] == 1


def test_randomness_follows_seed_and_step(config, batch):
    one = take_step(config, batch, devices=1, steps=2)[1]
    assert take_step(config, batch, devices=1, steps=2)[1] == one
    config.seed = 1
    assert take_step(config, batch, devices=1, steps=2)[1] != one


def test_mixing_reaches_the_loss_and_is_the_same_on_eight_devices(config, batch):
    plain = float(take_step(config, batch, devices=1)[1])
    config.loss.mixup_alpha, config.loss.cutmix_alpha = 0.4, 1.0
    one, eight = (float(take_step(config, batch, devices=devices)[1]) for devices in (1, 8))
    assert abs(one - plain) > 1e-4
    assert eight == pytest.approx(one, rel=1e-6)


def test_dropout_and_drop_connect_reach_the_loss(config, batch):
    losses = {}
    for dropout, survival in ((0.0, 1.0), (0.5, 1.0), (0.0, 0.5)):
        config.model.dropout_rate, config.model.survival_probability = dropout, survival
        losses[dropout, survival] = float(take_step(config, batch, devices=1)[1])
    assert len(set(losses.values())) == 3


def test_loss_is_float32_and_finite_for_huge_bfloat16_logits(config, batch):
    config.model.dtype = "bfloat16"
    state, loss = take_step(config, batch, devices=1)
    assert loss.dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats, state.ema))} == {
        np.dtype("float32")
    }


def test_a_loss_that_is_not_finite_is_remembered_with_its_step(config, batch):
    config.loss.weight_decay = float("inf")
    state, _ = take_step(config, batch, devices=1, steps=3)
    assert state.metrics.compute()["nonfinite"] == 1
    config.loss.weight_decay = 1e-5
    state, _ = take_step(config, batch, devices=1)
    assert state.metrics.compute()["nonfinite"] == NO_STEP


def test_smoothed_targets_by_hand():
    # The published code: onehot * 0.9 + 0.1 / classes.
    np.testing.assert_allclose(smoothed_targets(jnp.array([2]), 4, 0.1), [[0.025, 0.025, 0.925, 0.025]], rtol=1e-6)


def test_l2_counts_biases_and_leaves_batch_norm_out():
    params = {
        "stem": {"conv": {"kernel": jnp.array([3.0])}, "bn": {"scale": jnp.array([5.0]), "bias": jnp.array([7.0])}},
        "blocks_0_0": {
            "se": {"reduce": {"kernel": jnp.array([1.0]), "bias": jnp.array([2.0])}},
            "depthwise_bn": {"scale": jnp.array([11.0])},
        },
    }
    assert float(l2(params)) == 0.5 * (9 + 1 + 4)


def test_the_record_sum_tells_places_and_steps_apart_and_not_reports_or_devices(config, batch):
    def summed(records, devices=1, steps=1):
        state, _ = take_step(config, {**batch, "record": np.asarray(records, np.int32)}, devices, steps)
        return int(state.metrics.compute()["records"])

    records = list(range(100, 132))
    first, second = (record_sum(records, step, batch_size=32) for step in (1, 2))
    assert summed(records) == summed(records, devices=8) == first
    assert summed(records, steps=2) == (first + second) % 2**32
    assert summed([records[1], records[0], *records[2:]]) != first


@pytest.mark.parametrize(
    ("decayed", "expected"),
    [("all_but_norm", 0.5 * (4 + 9 + 16)), ("kernels", 0.5 * (4 + 16)), ("kernels_but_depthwise", 8)],
)
def test_l2_covers_what_the_family_decays(decayed, expected):
    params = {
        "block": {
            "depthwise_conv": {"kernel": jnp.full((1,), 2.0)},
            "depthwise_bn": {"scale": jnp.full((1,), 5.0), "bias": jnp.full((1,), 7.0)},
        },
        "classifier": {"kernel": jnp.full((1,), 4.0), "bias": jnp.full((1,), 3.0)},
    }
    assert float(l2(params, decayed)) == expected
