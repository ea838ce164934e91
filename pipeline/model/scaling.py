"""From (width, depth, resolution) to a plain list of blocks: every rule of the family lives here and nowhere else.

A `Baseline` is a small network written as a table of stages; `scale_baseline` applies the rounding rules of its family
and returns an `Architecture`, in which each block is spelled out. The published sizes are rows of `VARIANTS`; to try
another network for small pictures, edit `MINI` and its rows. Nothing else in the project computes a width, a repeat
count or a survival rate.

Sources. [paper] Tan and Le, arXiv 1905.11946. [code] tensorflow/tpu, models/official/efficientnet:
efficientnet_builder.py, efficientnet_model.py, lite/efficientnet_lite_builder.py. The mini family is this project's
own.
"""

import functools
import math
from typing import NamedTuple

from pipeline.errors import ConfigError
from pipeline.model.specs import Architecture, Baseline, BlockSpec, StageSpec

B0 = Baseline(
    family="efficientnet",
    stages=(
        # repeats, kernel, strides, expand ratio, output filters
        StageSpec(1, 3, 1, 1, 16),
        StageSpec(2, 3, 2, 6, 24),
        StageSpec(2, 5, 2, 6, 40),
        StageSpec(3, 3, 2, 6, 80),
        StageSpec(3, 5, 1, 6, 112),
        StageSpec(4, 5, 2, 6, 192),
        StageSpec(1, 3, 1, 6, 320),
    ),
    stem_filters=32,
    stem_strides=2,
    head_filters=1280,
    resolution=224,
    dropout_rate=0.2,
)

LITE0 = Baseline(
    family="efficientnet-lite",
    stages=B0.stages,
    stem_filters=32,
    stem_strides=2,
    head_filters=1280,
    resolution=224,
    dropout_rate=0.2,
    activation="relu6",
    se_ratio=0.0,
    fixed_head_stem=True,
)

MINI = Baseline(
    family="mini",
    stages=(
        StageSpec(1, 3, 2, 1, 16),
        StageSpec(2, 3, 1, 4, 24),
        StageSpec(2, 3, 2, 4, 48),
        StageSpec(2, 3, 2, 4, 96),
    ),
    stem_filters=16,
    stem_strides=1,
    head_filters=256,
    resolution=16,
    dropout_rate=0.2,
)


class Multipliers(NamedTuple):
    """How a variant differs from its baseline."""

    baseline: Baseline
    width: float
    depth: float
    resolution: int
    dropout_rate: float


VARIANTS = {
    "b0": Multipliers(B0, 1.0, 1.0, 224, 0.2),
    "b1": Multipliers(B0, 1.0, 1.1, 240, 0.2),
    "b2": Multipliers(B0, 1.1, 1.2, 260, 0.3),
    "b3": Multipliers(B0, 1.2, 1.4, 300, 0.3),
    "b4": Multipliers(B0, 1.4, 1.8, 380, 0.4),
    "b5": Multipliers(B0, 1.6, 2.2, 456, 0.4),
    "b6": Multipliers(B0, 1.8, 2.6, 528, 0.5),
    "b7": Multipliers(B0, 2.0, 3.1, 600, 0.5),
    "b8": Multipliers(B0, 2.2, 3.6, 672, 0.5),
    "l2": Multipliers(B0, 4.3, 5.3, 800, 0.5),
    "lite0": Multipliers(LITE0, 1.0, 1.0, 224, 0.2),
    "lite1": Multipliers(LITE0, 1.0, 1.1, 240, 0.2),
    "lite2": Multipliers(LITE0, 1.1, 1.2, 260, 0.3),
    "lite3": Multipliers(LITE0, 1.2, 1.4, 280, 0.3),
    "lite4": Multipliers(LITE0, 1.4, 1.8, 300, 0.3),
    "mini0": Multipliers(MINI, 1.0, 1.0, 16, 0.2),
    "mini1": Multipliers(MINI, 1.5, 1.5, 28, 0.2),
    "mini2": Multipliers(MINI, 2.0, 2.0, 64, 0.3),
}


def round_filters(filters: int, width: float, *, limit_rounding_loss: bool = True, divisor: int = 8) -> int:
    """Scales a channel count and rounds it to the nearest multiple of `divisor`, halves up [code].

    Args:
      filters: Channels of the baseline.
      width: The multiplier.
      limit_rounding_loss: Round up where rounding down would take away more than a tenth.
      divisor: What the result is a multiple of; also its minimum.

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
      dropout_rate: Before the classifier; None keeps the baseline's.
      name: Of the result; None makes one of the multipliers.

    Returns:
      The architecture, with one `BlockSpec` per block.
    """

    def filters_of(filters: int) -> int:
        return round_filters(filters, width, limit_rounding_loss=baseline.limit_rounding_loss)

    def head_or_stem(filters: int) -> int:
        return filters if baseline.fixed_head_stem else filters_of(filters)

    blocks = []
    input_filters = head_or_stem(baseline.stem_filters)
    for stage, spec in enumerate(baseline.stages):
        keep_repeats = baseline.fixed_head_stem and stage in (0, len(baseline.stages) - 1)
        output_filters = filters_of(spec.output_filters)
        for repeat in range(spec.repeats if keep_repeats else round_repeats(spec.repeats, depth)):
            blocks.append(
                BlockSpec(
                    stage=stage,
                    repeat=repeat,
                    kernel_size=spec.kernel_size,
                    strides=spec.strides if repeat == 0 else 1,
                    expand_ratio=spec.expand_ratio,
                    input_filters=input_filters,
                    output_filters=output_filters,
                    se_ratio=baseline.se_ratio,
                )
            )
            input_filters = output_filters
    return Architecture(
        name=name or f"{baseline.family}-w{width:g}-d{depth:g}-r{resolution}",
        family=baseline.family,
        width=width,
        depth=depth,
        blocks=tuple(blocks),
        stem_filters=head_or_stem(baseline.stem_filters),
        stem_strides=baseline.stem_strides,
        head_filters=head_or_stem(baseline.head_filters),
        resolution=resolution,
        dropout_rate=baseline.dropout_rate if dropout_rate is None else dropout_rate,
        activation=baseline.activation,
    )


class Coefficients(NamedTuple):
    """The base of each dimension in compound scaling; the defaults are what the paper found on B0 [paper, 3.3]."""

    alpha: float = 1.2  # depth
    beta: float = 1.1  # width
    gamma: float = 1.15  # resolution

    @property
    def cost_ratio(self) -> float:
        """By how much one unit of phi multiplies the multiply-accumulates, before rounding: about 2 in the paper."""
        return self.alpha * self.beta**2 * self.gamma**2


PUBLISHED_COEFFICIENTS = Coefficients()


def compound_scale(baseline: Baseline, phi: float, coefficients: Coefficients = PUBLISHED_COEFFICIENTS) -> Architecture:
    """Scales depth, width and resolution together: alpha**phi, beta**phi and gamma**phi [paper, equation 3].

    The published sizes are these figures rounded by hand, B1 at phi 0.5 to B7 at about 6; `architecture` has them
    exactly.

    Args:
      baseline: The network at phi 0.
      phi: How much more there is to spend: the cost grows by `coefficients.cost_ratio ** phi`, about 2**phi.
      coefficients: What each dimension gets of it.

    Returns:
      The architecture; its resolution is rounded to whole pixels and its dropout is the baseline's.
    """
    return scale_baseline(
        baseline,
        width=coefficients.beta**phi,
        depth=coefficients.alpha**phi,
        resolution=round(baseline.resolution * coefficients.gamma**phi),
        name=f"{baseline.family}-phi{phi:g}",
    )


def survival_probabilities(num_blocks: int, survival_probability: float) -> tuple[float, ...]:
    """The probability that a block's branch is kept, falling linearly over all blocks.

    Block i of N, counted from 0, keeps its branch with probability 1 - (1 - p) * i / N [code]. The rate does not depend
    on the size of the network: an early version of the paper said 0.3 for the larger ones and was wrong
    (tensorflow/tpu#381).

    Args:
      num_blocks: N, all blocks, also those without a skip connection.
      survival_probability: p.

    Returns:
      N probabilities.
    """
    return tuple(1.0 - (1.0 - survival_probability) * i / num_blocks for i in range(num_blocks))


@functools.cache
def architecture(variant: str) -> Architecture:
    """Looks up a named network.

    Args:
      variant: A key of `VARIANTS`, for example "b0".

    Returns:
      Its architecture.

    Raises:
      ConfigError: If there is no such variant; the message lists them.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"model variant {variant!r} is unknown; the variants are {', '.join(VARIANTS)}")
    row = VARIANTS[variant]
    return scale_baseline(
        row.baseline, row.width, row.depth, row.resolution, dropout_rate=row.dropout_rate, name=variant
    )
