"""Parameters and multiply-accumulates of an architecture, counted from its specification.

Pure arithmetic on `Architecture`: no arrays, no JAX, so that a whole family or thousands of candidates cost nothing.
Counted as the published figures are: convolutions, squeeze-and-excitation and the classifier; not BatchNorm,
activations or pooling. One multiply-accumulate is what the paper calls one FLOP.
"""

import dataclasses
import math
from collections.abc import Iterator

from pipeline.model.specs import Architecture, BlockSpec


@dataclasses.dataclass(frozen=True)
class Count:
    """What a part of a network costs; counts add up with `+`.

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
    """The side of the output of a SAME-padded convolution."""
    return math.ceil(size / strides)


def count_blocks(architecture: Architecture, resolution: int) -> Iterator[tuple[BlockSpec, int, Count]]:
    """Counts block by block.

    Args:
      architecture: The network.
      resolution: Side of the input images in pixels.

    Yields:
      For each block: its specification, the side of its output in pixels, its count.
    """
    size = output_size(resolution, architecture.stem_strides)
    for block in architecture.blocks:
        output = output_size(size, block.strides)
        yield block, output, _count_block(block, size, output)
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
    size = output_size(resolution, architecture.stem_strides)
    total = _conv_bn(3, 3, architecture.stem_filters, size)
    for _, size, count in count_blocks(architecture, resolution):  # noqa: B007 - the last size is the head's
        total += count
    head_filters = architecture.head_filters
    total += _conv_bn(1, architecture.blocks[-1].output_filters, head_filters, size)
    return total + Count(params=(head_filters + 1) * num_classes, macs=head_filters * num_classes)


def count_batch_norms(architecture: Architecture) -> int:
    """The number of BatchNorm layers: stem, head, and two or three for each block."""
    return 2 + sum(2 if block.expand_ratio == 1 else 3 for block in architecture.blocks)


def _conv_bn(kernel_size: int, inputs: int, outputs: int, size: int) -> Count:
    """A convolution without bias that puts out `size` x `size` pixels, and its BatchNorm."""
    weights = kernel_size**2 * inputs * outputs
    return Count(params=weights + 2 * outputs, batch_stats=2 * outputs, macs=weights * size**2)


def _count_block(block: BlockSpec, size: int, output: int) -> Count:
    expanded = block.expanded_filters
    total = Count() if block.expand_ratio == 1 else _conv_bn(1, block.input_filters, expanded, size)
    total += _conv_bn(block.kernel_size, 1, expanded, output)
    if block.se_filters:
        weights = 2 * expanded * block.se_filters
        total += Count(params=weights + block.se_filters + expanded, macs=weights)
    return total + _conv_bn(1, expanded, block.output_filters, output)
