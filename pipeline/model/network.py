"""The network: stem, blocks and head, put together from an `Architecture` of any family.

This module defines the order of the layers, the names of the parameters and the outputs. The layers are in `blocks.py` and
the shapes in `scaling.py`. Parameters, BatchNorm statistics and logits are float32 whatever the compute dtype. The only
random stream is "dropout"; only training draws from it, and only training changes `batch_stats`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.model.blocks import Block, Conv, LayerOptions, spatial_padding
from pipeline.model.layers.activations import ACTIVATIONS
from pipeline.model.layers.initializers import INITIALIZERS
from pipeline.model.layers.normalization import GroupedBatchNorm
from pipeline.model.scaling import architecture, survival_probabilities
from pipeline.model.specs import Architecture, ConvSpec

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Network(nn.Module):
    """An image classifier.

    Attributes:
      architecture: The architecture.
      num_classes: Number of outputs of the classifier.
      dropout_rate: Dropout before the classifier, in training.
      survival_probability: Survival probability of the last block's branch; see `scaling.survival_probabilities`.
      bn_batch: Number of images that share BatchNorm statistics in training.
      bn_momentum: See `GroupedBatchNorm`.
      bn_epsilon: See `GroupedBatchNorm`.
      dtype: Dtype of activations.
      remat: Whether to recompute a block's activations in the backward pass.
      depthwise_channels_per_group: See `depthwise_conv`; changes values only by rounding.
      frozen_norm_parts: Number of parts, in the order stem, stages, head, whose BatchNorm statistics are frozen in training.
    """

    architecture: Architecture
    num_classes: int
    dropout_rate: float = 0.2
    survival_probability: float = 0.8
    bn_batch: int = 512
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    depthwise_channels_per_group: int = 1
    frozen_norm_parts: int = 0

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Classifies images.

        Args:
          images: [batch, height, width, 3], normalised.
          train: Whether to use batch statistics, dropout and drop-connect.

        Returns:
          Logits, float32 [batch, num_classes].

        Raises:
          ConfigError: In training, if groups of `bn_batch` images do not divide the batch.
        """
        return self.endpoints(images, train)["logits"]

    @nn.compact
    def endpoints(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Runs the network and returns its intermediate outputs.

        Args:
          images: As in `__call__`.
          train: As in `__call__`.

        Returns:
          "reduction_1", "reduction_2", …: the output of the last block before each stride, and of the last block; reduction_i
          of B0 is 2**i times smaller than the input. "features": the output of the last block. "maps": the last maps, before
          pooling, [batch, ., ., head filters]. "pooled_features": their mean, float32 [batch, head filters]. "logits":
          float32 [batch, num_classes].
        """
        arch = self.architecture
        norm = functools.partial(
            GroupedBatchNorm,
            bn_batch=self.bn_batch,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
        )
        family = arch.family
        options = LayerOptions(
            ACTIVATIONS[family.activation],
            family.padding,
            INITIALIZERS[family.initializers],
            self.depthwise_channels_per_group,
            self.dtype,
        )
        block_class = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        survival = survival_probabilities(len(arch.blocks), self.survival_probability)

        def norm_of(part: int) -> Callable:
            return functools.partial(norm, frozen=part < self.frozen_norm_parts)

        x = Stem(arch.stem, arch.stem_pool, norm_of(0), options, name="stem")(images, train)
        outputs = {}
        for i, spec in enumerate(arch.blocks):
            x = block_class(spec, survival[i], norm_of(spec.stage + 1), options, name=spec.name)(x, train)
            if i + 1 == len(arch.blocks) or arch.blocks[i + 1].strides > 1:
                outputs[f"reduction_{len(outputs) + 1}"] = x
        outputs["features"] = x
        head_norm = norm_of(arch.blocks[-1].stage + 2)
        head = Head(arch.head, self.num_classes, self.dropout_rate, head_norm, options, name="head")
        outputs["maps"], outputs["pooled_features"], outputs["logits"] = head(x, train)
        return outputs


class Stem(nn.Module):
    """The first convolution and, if the network has it, the pooling after it; attributes as in `Block`."""

    conv: ConvSpec
    pool: bool
    norm: Callable[..., GroupedBatchNorm]
    options: LayerOptions

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, height, width, 3] to [batch, ., ., conv.output_filters]."""
        options = self.options
        x = Conv(
            self.conv.output_filters,
            kernel_size=self.conv.kernel_size,
            strides=self.conv.strides,
            dtype=options.dtype,
            padding=options.padding,
            kernel_init=options.initializers.conv,
            name="conv",
        )(images)
        x = self.norm(activation=options.activation, name="bn")(x, train)
        if not self.pool:
            return x
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=spatial_padding(options.padding, 3))


class Head(nn.Module):
    """The last convolution, if any, then in float32 the mean over the image, dropout and the classifier."""

    conv: ConvSpec | None
    num_classes: int
    dropout_rate: float
    norm: Callable[..., GroupedBatchNorm]
    options: LayerOptions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps [batch, height, width, channels] to the last maps, their mean [batch, filters] and logits [batch, classes]."""
        options, initializers = self.options, self.options.initializers
        if self.conv is not None:
            x = Conv(self.conv.output_filters, dtype=options.dtype, kernel_init=initializers.conv, name="conv")(x)
            x = self.norm(activation=options.activation, name="bn")(x, train)
        pooled = x.mean(axis=(1, 2), dtype=jnp.float32)
        dropped = nn.Dropout(self.dropout_rate, deterministic=not train)(pooled)
        classifier = nn.Dense(
            self.num_classes, kernel_init=initializers.classifier, dtype=jnp.float32, name="classifier"
        )
        return x, pooled, classifier(dropped)


def with_family_defaults(model_config: ConfigDict) -> ConfigDict:
    """Returns a copy of `config.model` whose unset keys have the values of the variant's family.

    Raises:
      ConfigError: If the variant is unknown.
    """
    family, completed = architecture(model_config.variant).family, model_config.copy_and_resolve_references()
    for key in ("bn_momentum", "bn_epsilon", "survival_probability"):
        if completed[key] is None:
            completed[key] = getattr(family, key)
    return completed


def build_model(model_config: ConfigDict, num_classes: int, depthwise_channels_per_group: int = 1) -> Network:
    """Builds the network that a configuration describes.

    Args:
      model_config: `config.model` of `configs/recipe.py`.
      num_classes: Number of classes of the dataset.
      depthwise_channels_per_group: See `depthwise_conv`.

    Returns:
      The network, without parameters.

    Raises:
      ConfigError: If the variant or the dtype is unknown, a rate is not a probability, or there are fewer than two
      classes.
    """
    if model_config.dtype not in DTYPES:
        raise ConfigError(f"model.dtype={model_config.dtype!r} is unknown; take one of {', '.join(DTYPES)}")
    if num_classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes; the dataset has {num_classes}")
    arch = architecture(model_config.variant)
    dropout_rate = arch.dropout_rate if model_config.dropout_rate is None else model_config.dropout_rate
    if not 0 <= dropout_rate < 1:
        raise ConfigError(f"model.dropout_rate={dropout_rate} is not in [0, 1)")
    model_config = with_family_defaults(model_config)
    if not 0 < model_config.survival_probability <= 1:
        raise ConfigError(f"model.survival_probability={model_config.survival_probability} is not in (0, 1]")
    return Network(
        architecture=arch,
        num_classes=num_classes,
        dropout_rate=dropout_rate,
        survival_probability=model_config.survival_probability,
        bn_batch=model_config.bn_batch,
        bn_momentum=model_config.bn_momentum,
        bn_epsilon=model_config.bn_epsilon,
        dtype=DTYPES[model_config.dtype],
        remat=model_config.remat,
        depthwise_channels_per_group=depthwise_channels_per_group,
    )
