"""Counts the parameters and multiply-accumulates of an architecture from its specification.

Counting is arithmetic on `Architecture` without arrays or JAX, so thousands of candidates cost nothing. As in the published
figures, multiply-accumulates are those of convolutions, squeeze-and-excitation and the classifier, without BatchNorm,
activations or pooling. The paper calls one multiply-accumulate one FLOP.
"""

import dataclasses
import math
from collections.abc import Iterator

from pipeline.model.specs import Architecture, BlockSpec, ConvSpec


@dataclasses.dataclass(frozen=True)
class Count:
    """The costs of a part of a network; counts are added with `+`.

    Attributes:
      params: Trainable parameters.
      batch_stats: Running means and variances of BatchNorm.
      macs: Multiply-accumulates for one image.
    """

    params: int = 0
    batch_stats: int = 0
    macs: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.params + other.params, self.batch_stats + other.batch_stats, self.macs + other.macs)


def output_size(size: int, strides: int) -> int:
    """Returns the side of a convolution's output, with "same" or "symmetric" padding."""
    return math.ceil(size / strides)


def count_blocks(architecture: Architecture, resolution: int) -> Iterator[tuple[BlockSpec, int, Count]]:
    """Counts block by block.

    Args:
      architecture: The network.
      resolution: Side of the input images in pixels.

    Yields:
      The specification, the side of the output in pixels, and the count of each block.
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
      num_classes: Outputs of the classifier.
      resolution: Side of the input images in pixels; None takes the architecture's own.

    Returns:
      The sum over stem, blocks, head and classifier.
    """
    resolution = resolution or architecture.resolution
    total = _conv_bn(architecture.stem, output_size(resolution, architecture.stem_strides))
    size = _stem_output_size(architecture, resolution)
    for _, size, count in count_blocks(architecture, resolution):  # noqa: B007 - the last size is the head's
        total += count
    if architecture.head is not None:
        total += _conv_bn(architecture.head, size)
    features = architecture.num_features
    return total + Count(params=(features + 1) * num_classes, macs=features * num_classes)


def count_batch_norms(architecture: Architecture) -> int:
    """Returns the number of BatchNorm layers: one for each convolution outside squeeze-and-excitation."""
    ends = 1 if architecture.head is None else 2
    return ends + sum(len(block.convs) + (block.shortcut is not None) for block in architecture.blocks)


def _stem_output_size(architecture: Architecture, resolution: int) -> int:
    size = output_size(resolution, architecture.stem_strides)
    return output_size(size, 2) if architecture.stem_pool else size


def _conv_bn(conv: ConvSpec, size: int) -> Count:
    """Counts a convolution with an output of `size` x `size` pixels, its BatchNorm, and its squeeze-and-excitation."""
    weights, outputs = math.prod(conv.kernel_shape), conv.output_filters
    count = Count(params=weights + 2 * outputs, batch_stats=2 * outputs, macs=weights * size**2)
    if conv.se_filters:
        weights = 2 * outputs * conv.se_filters
        count += Count(params=weights + conv.se_filters + outputs, macs=weights)
    return count


def _count_block(block: BlockSpec, size: int) -> Count:
    total = Count() if block.shortcut is None else _conv_bn(block.shortcut, output_size(size, block.strides))
    for conv in block.convs:
        size = output_size(size, conv.strides)
        total += _conv_bn(conv, size)
    return total
