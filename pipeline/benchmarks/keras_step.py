"""The same training with Keras on JAX, as its users write it: the baseline for our train step.

The network is from `keras.applications`. The step is Keras's documented stateless one, with its RMSProp and label smoothing,
in the configuration's precision. It does less than ours: no moving averages, no weight decay, no sums of metrics, and
BatchNorm statistics over the whole batch. Keras must not have been imported with another backend before.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.errors import ConfigError
from pipeline.training.experiment import DatalessExperiment


def keras_step(experiment: DatalessExperiment) -> tuple[Callable, tuple]:
    """Returns Keras's step `(state, images, labels) -> (state, loss)` and its state at step 0, as NumPy arrays.

    Images are uint8 `[batch, size, size, 3]` and labels int32 `[batch]`, as for our step.

    Raises:
      ConfigError: `keras.applications` has no such network.
    """
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    config, hparams = experiment.config, experiment.hparams
    network = getattr(keras.applications, f"EfficientNet{config.model.variant.upper()}", None)
    if network is None:
        raise ConfigError(f"config.model.variant={config.model.variant!r}: keras.applications has B0 to B7")
    precision = "mixed_bfloat16" if config.model.dtype == "bfloat16" else "float32"
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        keras.mixed_precision.set_dtype_policy(precision)
        model = network(
            weights=None,
            input_shape=(hparams.image_size, hparams.image_size, 3),
            classes=hparams.num_classes,
            classifier_activation=None,
        )
        optimizer = keras.optimizers.RMSprop(hparams.peak_lr, rho=0.9, momentum=0.9, epsilon=1e-3)
        optimizer.build(model.trainable_variables)
        loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.loss.label_smoothing)
        parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        state = tuple([np.asarray(variable.value) for variable in part] for part in parts)

    def step(state: tuple, images: jax.Array, labels: jax.Array) -> tuple[tuple, jax.Array]:
        trainable, others, slots = state

        def loss_of(trainable):
            logits, updated = model.stateless_call(trainable, others, images, training=True)
            targets = jax.nn.one_hot(labels, hparams.num_classes)
            return loss_fn(targets, logits.astype(jnp.float32)), updated

        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, others, slots), loss

    return step, state


def lower_keras_step(experiment: DatalessExperiment) -> jax.stages.Lowered:
    """Lowers Keras's step for the experiment's devices; its state is donated, as ours is."""
    step, state = keras_step(experiment)
    batch = experiment.abstract_batch(experiment.hparams.batch_size, experiment.hparams.image_size)
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=experiment.replicated), state
    )
    compiled_as_ours = {"donate_argnums": 0, "out_shardings": (experiment.replicated, experiment.replicated)}
    return jax.jit(step, **compiled_as_ours).lower(state, batch["image"], batch["label"])
