"""The metrics that are summed on the device in training and evaluation, as `clu.metrics` collections.

Sums are float32 and counts int32, whatever the dtype of the activations. The training sums since the last report are part of
the train state, so a run that was interrupted between two reports reports the same numbers as an undisturbed one.
"""

import flax.struct
import jax
import jax.numpy as jnp
from clu import metrics

NO_STEP = jnp.iinfo(jnp.int32).max


@flax.struct.dataclass
class Count(metrics.Metric):
    """A number of examples."""

    total: jax.Array  # shape=(), dtype=int32

    @classmethod
    def empty(cls) -> "Count":
        return cls(total=jnp.zeros((), jnp.int32))

    @classmethod
    def from_model_output(cls, happened: jax.Array, **_) -> "Count":
        return cls(total=jnp.sum(happened, dtype=jnp.int32))

    def merge(self, other: "Count") -> "Count":
        return type(self)(total=self.total + other.total)

    def compute(self) -> jax.Array:
        return self.total


@flax.struct.dataclass
class FirstStep(metrics.Metric):
    """The first step at which something happened; `NO_STEP` while it has not."""

    step: jax.Array  # shape=(), dtype=int32

    @classmethod
    def empty(cls) -> "FirstStep":
        return cls(step=jnp.full((), NO_STEP, jnp.int32))

    @classmethod
    def from_model_output(cls, happened: jax.Array, step: jax.Array, **_) -> "FirstStep":
        return cls(step=jnp.where(happened, step, NO_STEP).astype(jnp.int32))

    def merge(self, other: "FirstStep") -> "FirstStep":
        return type(self)(step=jnp.minimum(self.step, other.step))

    def compute(self) -> jax.Array:
        return self.step


@flax.struct.dataclass
class RecordSum(metrics.Metric):
    """A checksum, modulo 2**32, of which record was in which row of which step.

    The sum over all steps of a run does not depend on the number of reports, restarts or devices.
    """

    total: jax.Array  # shape=(), dtype=uint32

    @classmethod
    def empty(cls) -> "RecordSum":
        return cls(total=jnp.zeros((), jnp.uint32))

    @classmethod
    def from_model_output(cls, records: jax.Array, step: jax.Array, **_) -> "RecordSum":
        """Takes the records of a batch, int32 `[batch]`, and its step, counted from 1."""
        places = (step.astype(jnp.uint32) - 1) * records.size + jnp.arange(records.size, dtype=jnp.uint32)
        return cls(total=jnp.sum(_mixed(_mixed(places) + records.astype(jnp.uint32)), dtype=jnp.uint32))

    def merge(self, other: "RecordSum") -> "RecordSum":
        return type(self)(total=self.total + other.total)

    def compute(self) -> jax.Array:
        return self.total


def _mixed(values: jax.Array) -> jax.Array:
    """Hashes uint32 values by the finalizer of MurmurHash3."""
    values = (values ^ (values >> 16)) * jnp.uint32(0x85EBCA6B)
    values = (values ^ (values >> 13)) * jnp.uint32(0xC2B2AE35)
    return values ^ (values >> 16)


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
    """Sums over the steps since the last report."""

    loss: metrics.Average.from_fun(lambda loss, **_: {"values": loss, "mask": None})  # with label smoothing and L2
    accuracy: metrics.Average.from_output("correct")  # top-1, augmented images, of the weights before the update
    gradient_norm: metrics.Average.from_fun(lambda gradient_norm, **_: {"values": gradient_norm, "mask": None})
    bad_images: Count.from_fun(lambda mask, **_: {"happened": ~mask, "mask": None})  # damaged, not in the loss
    records: RecordSum.from_fun(lambda records, step, **_: {"records": records, "step": step, "mask": None})
    nonfinite: FirstStep.from_fun(lambda nonfinite, step, **_: {"happened": nonfinite, "step": step, "mask": None})


@flax.struct.dataclass
class EvalMetrics(metrics.Collection):
    """Sums over the examples of a split, each counted once."""

    loss: metrics.Average.from_output("loss")  # cross-entropy, without smoothing and L2
    top1: metrics.Average.from_output("top1")
    top5: metrics.Average.from_output("top5")  # top-k for k classes where there are fewer than 5
    examples: Count.from_fun(lambda mask, **_: {"happened": mask, "mask": None})
