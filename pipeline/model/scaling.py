"""The scaling rules: from width, depth and resolution to a plain list of blocks.

A `Baseline` is a network written as a table of stages (`families/`). `scale_baseline` applies the rounding rule of its family
and returns an `Architecture` with every block resolved. No other module computes a width, a repeat count or a survival
probability.

Sources. [paper] Tan and Le, arXiv 1905.11946. [code] tensorflow/tpu, models/official/efficientnet:
efficientnet_builder.py, efficientnet_model.py, lite/efficientnet_lite_builder.py.
"""

import functools
import math

from pipeline.model.specs import Architecture, Baseline, BlockSpec
from pipeline.model.variants import Coefficients, ScaledVariant, row


def round_filters(filters: int, width: float, *, limit_rounding_loss: bool = True, divisor: int = 8) -> int:
    """Scales a channel count and rounds it to the nearest multiple of `divisor`, halves up [code].

    Args:
      filters: Channels of the baseline.
      width: The multiplier.
      limit_rounding_loss: Whether to round up if rounding down would remove more than a tenth.
      divisor: The result is a multiple of it, and at least this large.

    Returns:
      The number of channels.
    """
    scaled = filters * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    if limit_rounding_loss and rounded < 0.9 * scaled:
        rounded += divisor
    return rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Scales the number of blocks of a stage, rounding up [code]."""
    return math.ceil(repeats * depth)


def scale_baseline(
    baseline: Baseline,
    width: float,
    depth: float,
    resolution: int,
    *,
    dropout_rate: float | None = None,
    name: str | None = None,
) -> Architecture:
    """Applies width and depth multipliers to a baseline.

    Args:
      baseline: The network at width 1 and depth 1.
      width: Multiplies channel counts.
      depth: Multiplies the repeats of each stage.
      resolution: Side of the input, in pixels.
      dropout_rate: Dropout before the classifier; None keeps the baseline's.
      name: Name of the result; None derives one from the multipliers.

    Returns:
      The architecture, with one `BlockSpec` per block.
    """

    family = baseline.family

    def filters_of(filters: int) -> int:
        return round_filters(filters, width, limit_rounding_loss=family.limit_rounding_loss)

    def head_or_stem(filters: int) -> int:
        return filters if family.fixed_ends or not filters else filters_of(filters)

    blocks = []
    input_filters = head_or_stem(baseline.stem_filters)
    for stage, spec in enumerate(baseline.stages):
        keep_repeats = family.fixed_ends and stage in (0, len(baseline.stages) - 1)
        output_filters = filters_of(spec.output_filters)
        for repeat in range(spec.repeats if keep_repeats else round_repeats(spec.repeats, depth)):
            blocks.append(
                BlockSpec(
                    kind=spec.block,
                    stage=stage,
                    repeat=repeat,
                    kernel_size=spec.kernel_size,
                    strides=spec.strides if repeat == 0 else 1,
                    expand_ratio=spec.expand_ratio,
                    input_filters=input_filters,
                    output_filters=output_filters,
                    se_ratio=spec.se_ratio,
                )
            )
            input_filters = output_filters
    return Architecture(
        name=name or f"{family.name}-w{width:g}-d{depth:g}-r{resolution}",
        family=family,
        width=width,
        depth=depth,
        blocks=tuple(blocks),
        stem_filters=head_or_stem(baseline.stem_filters),
        stem_strides=baseline.stem_strides,
        head_filters=head_or_stem(baseline.head_filters),
        resolution=resolution,
        dropout_rate=baseline.dropout_rate if dropout_rate is None else dropout_rate,
        stem_kernel_size=baseline.stem_kernel_size,
        stem_pool=baseline.stem_pool,
    )


PUBLISHED_COEFFICIENTS = Coefficients()


def compound_scale(
    baseline: Baseline,
    phi: float,
    coefficients: Coefficients = PUBLISHED_COEFFICIENTS,
    *,
    resolution: int | None = None,
    name: str | None = None,
) -> Architecture:
    """Scales depth, width and resolution of any baseline together: alpha**phi, beta**phi and gamma**phi [paper, equation 3].

    The published sizes, B1 at phi 0.5 to B7 at about 6, are rounded by hand; `architecture` has them exactly.

    Args:
      baseline: The network at phi 0.
      phi: How much more there is to spend: the cost grows by `coefficients.cost_ratio ** phi`, about 2**phi.
      coefficients: The base of each dimension.
      resolution: Side of the input in pixels; None: gamma**phi times the baseline's.
      name: Name of the result; None derives one from phi.

    Returns:
      The architecture; its resolution is rounded to whole pixels and its dropout is the baseline's.

    Raises:
      ConfigError: A coefficient is not positive, or a multiplier is out of range.
    """
    depth, width, pixels = coefficients.multipliers(phi)
    return scale_baseline(
        baseline,
        width=width,
        depth=depth,
        resolution=resolution or round(baseline.resolution * pixels),
        name=name or f"{baseline.family.name}-phi{phi:g}",
    )


def survival_probabilities(num_blocks: int, survival_probability: float) -> tuple[float, ...]:
    """Returns the probability that each block's branch is kept; it falls linearly over the blocks.

    Block i of N, counted from 0, keeps its branch with probability 1 - (1 - p) * i / N [code]. p does not depend on the size of
    the network; an early version of the paper wrongly gave a drop rate of 0.3 for the larger ones (tensorflow/tpu#381).

    Args:
      num_blocks: N, the number of all blocks, including those without a skip connection.
      survival_probability: p.

    Returns:
      N probabilities.
    """
    return tuple(1.0 - (1.0 - survival_probability) * i / num_blocks for i in range(num_blocks))


@functools.cache
def architecture(variant: str) -> Architecture:
    """Looks up the network of a value of `config.model.variant`.

    Args:
      variant: A row of the table such as "b0", or a scaled one such as "b0:phi=2"; see `variants.py`.

    Returns:
      Its architecture.

    Raises:
      ConfigError: There is no such variant, or it cannot be scaled this way. The message lists the variants or names the
        problem.
    """
    scaled = ScaledVariant.parse(variant)
    base = row(scaled.name)
    return scale_baseline(
        base.baseline,
        base.width * scaled.width,
        base.depth * scaled.depth,
        scaled.resolution or base.resolution,
        dropout_rate=base.dropout_rate,
        name=variant,
    )
