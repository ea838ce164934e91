"""Counts the parameters and multiply-accumulates of an architecture from its specification.

Counting is arithmetic on an `Architecture`. It needs no arrays and no JAX, so a search can count thousands of candidates.
Multiply-accumulates (MACs) cover convolutions, squeeze-and-excitation and the classifier. They leave out BatchNorm, activations
and pooling, as the published figures do. The EfficientNet paper (Tan and Le, arXiv 1905.11946) calls one MAC one FLOP.
"""

import dataclasses
import math
from collections.abc import Iterator

from pipeline.model.specs import Architecture, BlockSpec, ConvSpec


@dataclasses.dataclass(frozen=True)
class Count:
    """The costs of a network or of a part of it. `+` adds the costs of two parts.

    Attributes:
      params: Number of trainable parameters, biases and BatchNorm's scales included.
      batch_stats: Number of BatchNorm's running means and variances.
      macs: Number of multiply-accumulates in the forward pass of one image.
    """

    params: int = 0
    batch_stats: int = 0
    macs: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.params + other.params, self.batch_stats + other.batch_stats, self.macs + other.macs)


def output_size(size: int, strides: int) -> int:
    """Returns the output side, in pixels, of a convolution or pooling on a square of side `size`.

    It is ceil(size / strides) with "same" padding, and with "symmetric" padding and an odd kernel.
    """
    return math.ceil(size / strides)


def count_blocks(architecture: Architecture, resolution: int) -> Iterator[tuple[BlockSpec, int, Count]]:
    """Counts each block; stem, head and classifier are left out.

    Args:
      architecture: The network.
      resolution: Side of the square input images in pixels.

    Yields:
      For each block: its specification, the side of its output in pixels, and its count.
    """
    size = _stem_output_size(architecture, resolution)
    for block in architecture.blocks:
        output = output_size(size, block.strides)
        yield block, output, _count_block(block, size)
        size = output


def count_architecture(architecture: Architecture, num_classes: int, resolution: int | None = None) -> Count:
    """Counts a whole network.

    Args:
      architecture: The network.
      num_classes: Number of classifier outputs.
      resolution: Side of the square input images in pixels; None means the architecture's own.

    Returns:
      The sum over stem, blocks, head and classifier.
    """
    resolution = resolution or architecture.resolution
    total = _conv_bn(architecture.stem, output_size(resolution, architecture.stem_strides))
    size = _stem_output_size(architecture, resolution)
    for _, size, count in count_blocks(architecture, resolution):  # noqa: B007 - the head needs the last size
        total += count
    if architecture.head is not None:
        total += _conv_bn(architecture.head, size)
    features = architecture.num_features
    return total + Count(params=(features + 1) * num_classes, macs=features * num_classes)


def count_batch_norms(architecture: Architecture) -> int:
    """Returns the number of BatchNorm layers: one for each convolution outside squeeze-and-excitation."""
    stem_and_head = 1 if architecture.head is None else 2
    return stem_and_head + sum(len(block.convs) + (block.shortcut is not None) for block in architecture.blocks)


def _stem_output_size(architecture: Architecture, resolution: int) -> int:
    """Returns the side, in pixels, of the first block's input: after the stem's convolution and its pooling, if any."""
    size = output_size(resolution, architecture.stem_strides)
    return output_size(size, 2) if architecture.stem_pool else size


def _conv_bn(conv: ConvSpec, size: int) -> Count:
    """Counts a convolution with an output of `size` x `size` pixels, its BatchNorm, and its squeeze-and-excitation."""
    weights, outputs = math.prod(conv.kernel_shape), conv.output_filters  # every weight is used once per output pixel
    count = Count(params=weights + 2 * outputs, batch_stats=2 * outputs, macs=weights * size**2)
    if conv.se_filters:
        se_weights = 2 * outputs * conv.se_filters  # two 1x1 convolutions with biases, on one mean per channel
        count += Count(params=se_weights + conv.se_filters + outputs, macs=se_weights)
    return count


def _count_block(block: BlockSpec, size: int) -> Count:
    """Counts a block, its projection shortcut included, with an input of `size` x `size` pixels."""
    total = Count() if block.shortcut is None else _conv_bn(block.shortcut, output_size(size, block.strides))
    for conv in block.convs:
        size = output_size(size, conv.strides)
        total += _conv_bn(conv, size)
    return total


def count_activations(architecture: Architecture) -> int:
    """Returns the values that the convolutions put out for one image, squeeze-and-excitation left out.

    A backward pass keeps about so many, so they measure the memory of training beside the parameters.
    """
    size = output_size(architecture.resolution, architecture.stem_strides)
    total = architecture.stem.output_filters * size**2
    size = _stem_output_size(architecture, architecture.resolution)
    for block in architecture.blocks:
        if block.shortcut is not None:
            total += block.output_filters * output_size(size, block.strides) ** 2
        for conv in block.convs:
            size = output_size(size, conv.strides)
            total += conv.output_filters * size**2
    return total + (architecture.head.output_filters * size**2 if architecture.head is not None else 0)
