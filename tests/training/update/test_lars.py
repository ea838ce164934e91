"""LARS against the published code, written out in NumPy."""

import jax
import numpy as np
import optax
import pytest

from pipeline.training.update.lars import lars

MOMENTUM, TRUST = 0.9, 0.001


def published_step(weights, momentum, gradient, lr, weight_decay, epsilon, skipped):
    """One variable's update in lars_optimizer.py: the new weights and the new momentum."""
    trust = 1.0
    if not skipped:
        weight_norm, gradient_norm = np.sqrt((weights**2).sum()), np.sqrt((gradient**2).sum())
        if weight_norm > 0 and gradient_norm > 0:
            trust = TRUST * weight_norm / (gradient_norm + weight_decay * weight_norm + epsilon)
        gradient = gradient + weight_decay * weights
    momentum = MOMENTUM * momentum + lr * trust * gradient
    return weights - momentum, momentum


@pytest.mark.slow
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])  # larger than the released 1e-5, so that forgetting it shows
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_twenty_steps_equal_the_published_code(weight_decay, epsilon):
    rng = np.random.default_rng(0)
    params = {
        "conv": {"kernel": rng.normal(size=(3, 3, 2, 4))},
        "born_zero": {"kernel": np.zeros((2, 3))},
        "bn": {"scale": np.ones(4), "bias": rng.normal(size=4)},
    }
    schedule = lambda step: 2.0 * (step + 1) / 20
    tx = lars(schedule, weight_decay=weight_decay, trust_coefficient=TRUST, epsilon=epsilon, momentum=MOMENTUM)
    ours, state = jax.tree.map(np.float32, params), None
    theirs = params
    momenta = jax.tree.map(np.zeros_like, params)
    state = tx.init(ours)
    for step in range(20):
        gradients = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
        updates, state = tx.update(jax.tree.map(np.float32, gradients), state, ours)
        ours = optax.apply_updates(ours, updates)
        lr = 2.0 * (step + 1) / 20
        moved = jax.tree.map_with_path(
            lambda path, *leaves, lr=lr: published_step(*leaves, lr, weight_decay, epsilon, path[0].key == "bn"),
            *(theirs, momenta, gradients),
        )
        theirs, momenta = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0)), moved)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)
