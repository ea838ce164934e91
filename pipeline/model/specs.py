"""Specifications of networks as plain data: families, baselines, convolutions, blocks and architectures.

A `BlockSpec` lists its convolutions. The network, the counts, the exports and the tensor names all walk that list, so each
kind of block is described once. An `Architecture` defines the shape of a network except for the number of classes. Widths are
computed in `scaling.py`. Nothing here imports JAX.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Family:
    """The properties that all networks of a family share besides their tables of stages.

    Attributes:
      name: The name shown to users.
      activation: "swish", "relu" or "relu6".
      padding: "same" (TensorFlow's SAME) or "symmetric" ((kernel - 1) / 2 zeros on each side, also before the pooling).
      bn_momentum: The share of BatchNorm's running statistics that a step keeps.
      bn_epsilon: Added to BatchNorm's variances.
      survival_probability: Survival probability of the last block's branch; 1: no stochastic depth.
      initializers: A key of `initializers.INITIALIZERS`.
      weight_decay: The parameters that L2 covers: "all_but_norm", "kernels" or "kernels_but_depthwise".
      preprocessing: The preprocessing of its published weights; a key of `weights.identification.PUBLISHED`.
      limit_rounding_loss: Whether rounding may remove at most a tenth of a width.
      fixed_ends: Whether stem, head and the repeats of the first and last stage stay unscaled.
    """

    name: str
    activation: str
    padding: str = "same"
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    survival_probability: float = 1.0
    initializers: str = "efficientnet"
    weight_decay: str = "all_but_norm"
    preprocessing: str = "imagenet"
    limit_rounding_loss: bool = True
    fixed_ends: bool = False


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """One row of a baseline's table: `repeats` blocks, of which the first has the stride and changes the width.

    Attributes:
      repeats: Number of blocks.
      kernel_size: Side of the spatial kernel.
      strides: Stride of the first block.
      expand_ratio: Inner width over input width; for bottlenecks, output width over inner width.
      output_filters: Output channels.
      block: A key of `BLOCKS`.
      se_ratio: Width of squeeze-and-excitation relative to the input of the block; 0 leaves it out.
    """

    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    output_filters: int
    block: str = "mbconv"
    se_ratio: float = 0.25


@dataclasses.dataclass(frozen=True)
class Baseline:
    """An unscaled network.

    Attributes:
      family: Its family, with the rounding rule.
      stages: The table.
      stem_filters: Output channels of the stem's convolution.
      stem_strides: Stride of the stem's convolution.
      head_filters: Output channels of the last 1x1 convolution; 0 leaves it out.
      resolution: Side of the square input, in pixels.
      dropout_rate: Rate of the dropout before the classifier.
      stem_kernel_size: Side of the stem's kernel.
      stem_pool: Whether a 3x3 max pooling with stride 2 follows the stem's convolution.
    """

    family: Family
    stages: tuple[StageSpec, ...]
    stem_filters: int
    stem_strides: int
    head_filters: int
    resolution: int
    dropout_rate: float
    stem_kernel_size: int = 3
    stem_pool: bool = False


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named network: how it differs from its baseline."""

    baseline: Baseline
    width: float
    depth: float
    resolution: int
    dropout_rate: float


@dataclasses.dataclass(frozen=True)
class ConvSpec:
    """A convolution without bias and the BatchNorm after it, fully resolved.

    Attributes:
      name: Prefix of the layers' names: "expand" makes "expand_conv" and "expand_bn".
      kernel_size: Side of the kernel.
      strides: Stride of both spatial axes.
      input_filters: Input channels.
      output_filters: Output channels.
      depthwise: Whether each channel has a kernel of its own.
      activated: Whether the activation follows.
      se_filters: Inner channels of the squeeze-and-excitation that follows; 0 for none.
    """

    name: str
    kernel_size: int
    strides: int
    input_filters: int
    output_filters: int
    depthwise: bool = False
    activated: bool = True
    se_filters: int = 0

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """The kernel's shape: [height, width, in, out], or [height, width, 1, channels] if depthwise."""
        return (self.kernel_size, self.kernel_size, 1 if self.depthwise else self.input_filters, self.output_filters)


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One block, fully resolved.

    Attributes:
      kind: A key of `BLOCKS`.
      stage: 0-based stage.
      repeat: 0-based position in the stage.
      kernel_size: Side of the spatial kernel.
      strides: Stride of the block.
      expand_ratio: As in `StageSpec`.
      input_filters: Input channels.
      output_filters: Output channels.
      se_ratio: Width of the squeeze relative to `input_filters`; 0 for none.
    """

    kind: str
    stage: int
    repeat: int
    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float

    @property
    def name(self) -> str:
        """The name of the block's parameters, for example "blocks_2_0"."""
        return f"blocks_{self.stage}_{self.repeat}"

    @property
    def expanded_filters(self) -> int:
        """Channels of the inner convolution of an inverted bottleneck."""
        return self.input_filters * self.expand_ratio

    @property
    def se_filters(self) -> int:
        """Channels of the squeeze; 0 for none. They follow from the block's input, not from its expanded width.

        Source: tensorflow/tpu, efficientnet_model.py, and google/automl, effnetv2_model.py.
        """
        return max(1, int(self.input_filters * self.se_ratio)) if self.se_ratio else 0

    @property
    def convs(self) -> tuple[ConvSpec, ...]:
        """The convolutions of the block's branch, in order."""
        return BLOCKS[self.kind](self)

    @property
    def shortcut(self) -> ConvSpec | None:
        """The projection on the skip connection; None if the input itself is added, or nothing."""
        if not self._is_bottleneck or self._keeps_shape:
            return None
        return ConvSpec("shortcut", 1, self.strides, self.input_filters, self.output_filters, activated=False)

    @property
    def skip(self) -> bool:
        """Whether something is added to the output of the branch; only then stochastic depth applies."""
        return self._is_bottleneck or (self._keeps_shape and self.kind != "separable")

    @property
    def activates_sum(self) -> bool:
        """Whether the activation comes after the sum."""
        return self._is_bottleneck

    @property
    def _keeps_shape(self) -> bool:
        return self.strides == 1 and self.input_filters == self.output_filters

    @property
    def _is_bottleneck(self) -> bool:
        return self.kind.startswith("bottleneck")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network ready to be built. `Baseline` describes the attributes that both have."""

    name: str
    family: Family
    width: float
    depth: float
    blocks: tuple[BlockSpec, ...]
    stem_filters: int
    stem_strides: int
    head_filters: int
    resolution: int
    dropout_rate: float
    stem_kernel_size: int = 3
    stem_pool: bool = False

    @property
    def stem(self) -> ConvSpec:
        """The first convolution."""
        return ConvSpec("", self.stem_kernel_size, self.stem_strides, 3, self.stem_filters)

    @property
    def head(self) -> ConvSpec | None:
        """The last convolution; None if the last block's output is pooled directly."""
        last = self.blocks[-1].output_filters
        return ConvSpec("", 1, 1, last, self.head_filters) if self.head_filters else None

    @property
    def num_features(self) -> int:
        """The classifier's inputs."""
        return self.head_filters or self.blocks[-1].output_filters


def _mbconv(block: BlockSpec) -> tuple[ConvSpec, ...]:
    """Expand, convolve each channel, squeeze and excite, project (arXiv 1905.11946, section 4; 1801.04381, section 3)."""
    wide = block.expanded_filters
    expand = ConvSpec("expand", 1, 1, block.input_filters, wide)
    depthwise = ConvSpec(
        "depthwise", block.kernel_size, block.strides, wide, wide, depthwise=True, se_filters=block.se_filters
    )
    project = ConvSpec("project", 1, 1, wide, block.output_filters, activated=False)
    return (depthwise, project) if block.expand_ratio == 1 else (expand, depthwise, project)


def _fused_mbconv(block: BlockSpec) -> tuple[ConvSpec, ...]:
    """Expand with a dense kernel, project (arXiv 2104.00298, figure 2).

    Without an expansion, the block is one activated convolution (google/automl, effnetv2_model.py).
    """
    wide, se_filters = block.expanded_filters, block.se_filters
    if block.expand_ratio == 1:
        return (ConvSpec("project", block.kernel_size, block.strides, block.input_filters, block.output_filters),)
    expand = ConvSpec("expand", block.kernel_size, block.strides, block.input_filters, wide, se_filters=se_filters)
    return (expand, ConvSpec("project", 1, 1, wide, block.output_filters, activated=False))


def _separable(block: BlockSpec) -> tuple[ConvSpec, ...]:
    """Convolve each channel, then mix them; both activated (arXiv 1704.04861, figure 3)."""
    width = block.input_filters
    depthwise = ConvSpec("depthwise", block.kernel_size, block.strides, width, width, depthwise=True)
    return (depthwise, ConvSpec("project", 1, 1, width, block.output_filters))


def _bottleneck(block: BlockSpec, first_strides: int = 1) -> tuple[ConvSpec, ...]:
    """Reduce, convolve, expand (arXiv 1512.03385, figure 5); "v1.5" has the stride on the spatial convolution."""
    inner = block.output_filters // block.expand_ratio
    return (
        ConvSpec("reduce", 1, first_strides, block.input_filters, inner),
        ConvSpec("spatial", block.kernel_size, block.strides // first_strides, inner, inner),
        ConvSpec("expand", 1, 1, inner, block.output_filters, activated=False),
    )


BLOCKS: dict[str, Callable[[BlockSpec], tuple[ConvSpec, ...]]] = {
    "mbconv": _mbconv,
    "fused_mbconv": _fused_mbconv,
    "separable": _separable,
    "bottleneck": _bottleneck,
    "bottleneck_v1": lambda block: _bottleneck(block, first_strides=block.strides),  # as first published
}
