"""Schedule, RMSProp, L2 and EMA against TensorFlow 1's own, and against the published code's golden values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import recipe
from pipeline.configuration.hyperparameters import resolve
from pipeline.training.update.optimizer import make_optimizer, make_schedule
from pipeline.training.update.step import l2, update_ema


def imagenet_schedule(**schedule):
    config = recipe.get_config()
    config.schedule.update(schedule)
    hparams = resolve(config, num_classes=1000, num_train_examples=1_281_167, num_eval_examples=50_000, num_devices=1)
    return config, hparams, make_schedule(config, hparams)


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [
        (1, 0.0511),
        (2.5, 0.1279),
        (5, 0.24087),
        (10, 0.22663),
        (50, 0.13921),
        (100, 0.07343),
        (200, 0.02043),
        (300, 0.00586),
        (349.9, 0.00309),
    ],
)
def test_published_schedule_at_batch_4096(epoch, lr):
    # Values of the authors' build_learning_rate, executed. The clock of the decay starts at step 0: 0.2409 after warm-up.
    _, hparams, schedule = imagenet_schedule()
    assert float(schedule(int(epoch * hparams.steps_per_epoch))) == pytest.approx(lr, rel=6e-3 if epoch == 1 else 6e-4)


def test_published_numbers_are_derived():
    _, hparams, _ = imagenet_schedule()
    assert hparams.peak_lr == pytest.approx(0.256)
    assert hparams.total_steps == 109_475  # 218,949 steps at 2,048, rounded to the nearest
    assert hparams.warmup_steps == 1563
    assert hparams.bn_batch == 512


@pytest.mark.parametrize("step", [0, 1, 999, 20_000, 109_474])
def test_cosine_and_polynomial_by_hand(step):
    _, hparams, cosine = imagenet_schedule(name="cosine", warmup="0 steps")
    assert float(cosine(step)) == pytest.approx(0.128 * (1 + np.cos(np.pi * step / hparams.total_steps)), abs=1e-7)
    _, hparams, polynomial = imagenet_schedule(name="polynomial", warmup="0 steps", final_lr=0.1)
    # As published, over one step more than there are: the last step does not quite reach the final rate.
    expected = 0.1 + (0.256 - 0.1) * (1 - step / (hparams.total_steps + 1)) ** 2
    assert float(polynomial(step)) == pytest.approx(expected, rel=1e-5)


INPUTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(16, 2)).astype(np.float32)
WEIGHT_DECAY = 0.05  # larger than the recipe's, so that forgetting it shows


def initial_params():
    rng = np.random.default_rng(2)
    return {
        "classifier": {
            "kernel": rng.normal(size=(3, 2)).astype(np.float32),
            "bias": rng.normal(size=2).astype(np.float32),
        },
        "bn": {"scale": rng.normal(size=2).astype(np.float32)},
    }


def test_fifty_steps_equal_tensorflow_1():
    """Schedule, L2 on kernels and biases but not on BatchNorm, RMSProp and EMA, all at once against TF1's classes."""
    config, hparams, _ = imagenet_schedule()
    config.schedule.update(warmup="10 steps", decay_every="7 steps", decay_rate=0.8)
    hparams = resolve(config, num_classes=2, num_train_examples=4096, num_eval_examples=1, num_devices=1)
    ours = our_trajectory(config, hparams, steps=50)
    theirs = tensorflow_trajectory(hparams, steps=50)
    for (params, ema), (their_params, their_ema) in zip(ours, theirs):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), params, their_params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ema, their_ema)


def our_trajectory(config, hparams, steps):
    schedule = make_schedule(config, hparams)
    tx = make_optimizer(config, schedule)

    def loss(params):
        outputs = (INPUTS @ params["classifier"]["kernel"] + params["classifier"]["bias"]) * params["bn"]["scale"]
        return jnp.mean((outputs - TARGETS) ** 2) + WEIGHT_DECAY * l2(params)

    @jax.jit
    def update(params, opt_state, ema, step):
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, opt_state, update_ema(ema, params, step + 1, config.ema.decay)

    params = ema = initial_params()
    opt_state = tx.init(params)
    for step in range(steps):
        params, opt_state, ema = update(params, opt_state, ema, jnp.int32(step))
        yield params, ema


def tensorflow_trajectory(hparams, steps):
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        params = jax.tree.map(lambda value: tf.compat.v1.Variable(value), initial_params())
        outputs = (INPUTS @ params["classifier"]["kernel"] + params["classifier"]["bias"]) * params["bn"]["scale"]
        decayed = [params["classifier"]["kernel"], params["classifier"]["bias"]]
        loss = tf.reduce_mean((outputs - TARGETS) ** 2) + WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(v) for v in decayed])
        lr = tf.compat.v1.train.exponential_decay(hparams.peak_lr, step, hparams.decay_every_steps, 0.8, staircase=True)
        warming = hparams.peak_lr * tf.cast(step, tf.float32) / hparams.warmup_steps
        lr = tf.where(step < hparams.warmup_steps, warming, lr)
        optimizer = tf.compat.v1.train.RMSPropOptimizer(lr, decay=0.9, momentum=0.9, epsilon=0.001)
        train = optimizer.minimize(loss, global_step=step)
        average = tf.compat.v1.train.ExponentialMovingAverage(0.9999, num_updates=step)
        variables = jax.tree.leaves(params)
        with tf.control_dependencies([train]):
            averaged = average.apply(variables)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(steps):
            session.run(averaged)
            yield session.run((params, jax.tree.map(average.average, params)))


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 2 / 11), (2, 0.25), (3, 4 / 13), (89_989, 0.99989999), (89_990, 0.9999)]
)
def test_ema_decay_warms_up(step, decay):
    # The published golden values: 0.1818, 0.25, 0.3077; the cap is reached at step 89,990.
    ema = update_ema({"x": jnp.float32(1.0)}, {"x": jnp.float32(0.0)}, jnp.int32(step), 0.9999)
    assert float(ema["x"]) == pytest.approx(decay, rel=1e-6)
