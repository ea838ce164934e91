"""The network against `keras.applications` with the same weights, and its promises about randomness and dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.recipe import get_config
from pipeline.model.network import Network, build_model
from pipeline.model.scaling import architecture
from tests.model import keras_reference

CLASSES = 11
# The networks are large and run once: compile them fast, not well.
COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def _model(variant, **overrides):
    # No drop-connect and no dropout, so that training can be compared.
    defaults = {"survival_probability": 1.0, "dropout_rate": 0.0}
    return Network(architecture(variant), num_classes=CLASSES, **{**defaults, **overrides})


def _images(batch, size):
    return np.random.default_rng(size).normal(size=(batch, size, size, 3)).astype(np.float32)


def _random_variables(model):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return keras_reference.random_variables(
        jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), images)
    )


def _relative_error(actual, expected):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    ("variant", "size"),
    [
        *(("b0", size) for size in (224, 65, 97)),  # native, and odd at every level: TensorFlow's SAME padding
        *(("b1", 240), ("b2", 260), ("b3", 300)),
        *((variant, 64) for variant in ("b4", "b5", "b6", "b7")),
    ],
)
def test_logits_equal_keras(variant, size):
    model = _model(variant)
    variables, images = _random_variables(model), _images(1, size)
    reference = keras_reference.keras_model(variant, size, CLASSES)
    keras_reference.load(reference, variant, variables)
    # Keras divides by 255 and then normalises with mean 0 and variance 1 unless told otherwise.
    expected = reference(images * 255, training=False)

    forward = jax.jit(functools.partial(model.apply, train=False), compiler_options=COMPILE_FAST)
    actual = forward(variables, images)
    assert actual.dtype == jnp.float32
    assert np.abs(expected).max() > 0.1  # the comparison means something
    assert _relative_error(actual, expected) < 1e-4


def test_gradients_of_b0_in_training_equal_keras():
    import tensorflow as tf

    size, batch = 64, 4
    model = _model("b0", bn_batch=batch)
    variables, images = _random_variables(model), _images(batch, size)
    cotangent = np.random.default_rng(1).normal(size=(batch, CLASSES)).astype(np.float32)

    reference = keras_reference.keras_model("b0", size, CLASSES)
    keras_reference.load(reference, "b0", variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(reference(images * 255, training=True) * cotangent)
    weights = reference.trainable_variables
    expected = {weight.path: gradient for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True)}

    @functools.partial(jax.jit, compiler_options=COMPILE_FAST)
    def gradients(params):
        def loss(params):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            return (model.apply(state, images, train=True, mutable=["batch_stats"])[0] * cotangent).sum()

        return jax.grad(loss)(params)

    actual = gradients(variables["params"])
    keras_leaves = {"kernel": "kernel", "bias": "bias", "scale": "gamma"}
    # Some gradients are 0 but for rounding: a bias before a convolution and another BatchNorm changes nothing.
    rounding = 1e-6 * max(np.abs(gradient).max() for gradient in expected.values())
    compared = 0
    for path, name in keras_reference.layer_names(architecture("b0")).items():
        for leaf, value in keras_reference.lookup(actual, path).items():
            keras_leaf = "beta" if leaf == "bias" and name.endswith("bn") else keras_leaves[leaf]
            value = keras_reference.to_keras(path, np.asarray(value)) if leaf == "kernel" else value
            wanted = np.asarray(expected[f"{name}/{keras_leaf}"])
            tolerance = 1e-3 * np.abs(wanted).max() + rounding
            np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance, err_msg=f"{path} {leaf}")
            compared += 1
    assert compared == len(expected) == 213


@pytest.fixture(scope="module")
def mini():
    """A small network with drop-connect and dropout, its variables and a function that runs it in training."""
    model = _model("mini0", survival_probability=0.5, dropout_rate=0.5, bn_batch=8)
    variables = _random_variables(model)

    @functools.partial(jax.jit, compiler_options=COMPILE_FAST)
    def train(images, rng):
        return model.apply(variables, images, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])

    return model, variables, train


def test_training_draws_from_the_dropout_stream_alone(mini):
    _, _, train = mini
    images = _images(8, 16)
    first, again, other = (train(images, jax.random.key(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_endpoints_of_b0_have_the_published_reductions():
    model = _model("b0")
    variables = _random_variables(model)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    endpoints = jax.eval_shape(functools.partial(model.apply, train=False, method=Network.endpoints), variables, images)
    shapes = {name: value.shape for name, value in endpoints.items()}
    assert shapes == {
        "reduction_1": (2, 112, 112, 16),
        "reduction_2": (2, 56, 56, 24),
        "reduction_3": (2, 28, 28, 40),
        "reduction_4": (2, 14, 14, 112),
        "reduction_5": (2, 7, 7, 320),
        "features": (2, 7, 7, 320),
        "maps": (2, 7, 7, 1280),
        "pooled_features": (2, 1280),
        "logits": (2, CLASSES),
    }


def test_drop_connect_reaches_each_block_with_its_own_rate(monkeypatch):
    from pipeline.model import blocks

    model = _model("b0", survival_probability=0.8, bn_batch=2)
    variables, images = _random_variables(model), _images(2, 32)
    seen = []

    def record(images, survival_probability, rng):
        seen.append(survival_probability)
        return images

    monkeypatch.setattr(blocks, "drop_connect", record)
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    jax.eval_shape(lambda rng: train(variables, images, rngs={"dropout": rng}), jax.random.key(0))
    # The blocks of B0 that have a skip connection, of 16.
    assert seen == pytest.approx([1 - 0.2 * i / 16 for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


def test_bfloat16_keeps_float32_parameters_statistics_and_logits(mini):
    exact, variables, _ = mini
    model = exact.clone(dtype=jnp.bfloat16, dropout_rate=0.0, survival_probability=1.0)
    images = _images(8, 16)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]), compiler_options=COMPILE_FAST)
    logits, updates = apply(variables, images)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    endpoints = jax.eval_shape(functools.partial(model.apply, train=False, method="endpoints"), variables, images)
    assert endpoints["features"].dtype == jnp.bfloat16
    assert endpoints["pooled_features"].dtype == jnp.float32


def test_remat_changes_neither_values_nor_gradients(mini):
    model, variables, _ = mini
    images, rng = _images(8, 16), jax.random.key(3)

    def gradients(model):
        def loss(params):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, updates = model.apply(state, images, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])
            return logits.sum(), updates

        return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=COMPILE_FAST)(variables["params"])

    plain, recomputed = gradients(model), gradients(model.clone(remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, recomputed)


def _config(**overrides) -> ConfigDict:
    config = get_config().model
    config.update(overrides)
    return config


def test_build_model_takes_the_variants_own_dropout_unless_told():
    assert build_model(_config(variant="b7"), 1000).dropout_rate == 0.5
    assert build_model(_config(variant="b7", dropout_rate=0.1), 1000).dropout_rate == 0.1


@pytest.mark.parametrize(
    ("overrides", "classes", "message"),
    [
        ({"variant": "b77"}, 10, "'b77' is unknown"),
        ({"dtype": "float16"}, 10, "model.dtype='float16' is unknown"),
        ({}, 1, "at least 2 classes"),
        ({"dropout_rate": 1.0}, 10, "model.dropout_rate=1.0"),
        ({"survival_probability": 0.0}, 10, "model.survival_probability=0.0"),
    ],
)
def test_build_model_refuses_what_makes_no_network(overrides, classes, message):
    with pytest.raises(ValueError, match=message):
        build_model(_config(**overrides), classes)
