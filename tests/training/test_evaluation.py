"""Exact evaluation against counts by numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.training.evaluation import eval_metrics, evaluate
from pipeline.training.update.metrics import EvalMetrics


def padded_batches(logits, labels, batch_size):
    for start in range(0, len(labels), batch_size):
        part, names = logits[start : start + batch_size], labels[start : start + batch_size]
        missing = batch_size - len(names)
        yield {
            "image": np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]),
            "label": np.concatenate([names, np.zeros(missing, names.dtype)]),
            "weight": np.arange(batch_size) < len(names),
        }


@pytest.mark.parametrize(("examples", "classes", "batch_size"), [(103, 10, 16), (5, 3, 8), (64, 1000, 64), (17, 2, 4)])
def test_every_example_counts_once(examples, classes, batch_size):
    rng = np.random.default_rng(examples)
    logits = rng.normal(size=(examples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, examples, dtype=np.int32)

    @jax.jit
    def eval_step(scale, batch, sums):
        return sums.merge(eval_metrics(batch["image"] * scale, batch["label"], batch["weight"]))

    variables = {"ema": jnp.float32(1), "raw": jnp.float32(-1)}
    results = evaluate(eval_step, variables, padded_batches(logits, labels, batch_size))
    for name, scale in (("ema", 1), ("raw", -1)):
        order = np.argsort(-scale * logits, axis=1)
        assert results[name]["examples"] == examples
        assert results[name]["top1"] == pytest.approx(np.mean(order[:, 0] == labels))
        assert results[name]["top5"] == pytest.approx(np.mean((order[:, :5] == labels[:, None]).any(1)))
        log_softmax = scale * logits - np.log(np.exp(scale * logits).sum(1, keepdims=True))
        assert results[name]["loss"] == pytest.approx(-log_softmax[np.arange(examples), labels].mean(), rel=1e-5)


def test_a_network_that_says_nothing_is_never_right():
    """All logits equal, or none a number: a tie must not count as a hit."""
    labels = jnp.arange(4)
    for logits in (jnp.zeros((4, 10)), jnp.full((4, 10), jnp.nan)):
        sums = EvalMetrics.empty().merge(eval_metrics(logits, labels, jnp.ones(4, bool)))
        assert float(sums.compute()["top1"]) == 0
