"""Text tables of all networks, of one network, and of a scaling search.

The figures come from `scaling.py`, `counting.py` and `scaling_search.py`.
"""

from collections.abc import Sequence

from pipeline.model.counting import count_architecture, count_batch_norms, count_blocks
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture, survival_probabilities
from pipeline.model.scaling_search import Candidate

_FAMILY_COLUMNS = (
    "variant",
    "width",
    "depth",
    "pixels",
    "dropout",
    "parameters",
    "BN-statistics",
    "multiply-adds",
    "BN-layers",
    "blocks",
    "stem",
    "head",
    "repeats",
    "widths",
)
_BLOCK_COLUMNS = (
    "block",
    "kernel",
    "stride",
    "expand",
    "in",
    "out",
    "squeeze",
    "pixels",
    "survival",
    "parameters",
    "multiply-adds",
)
_SEARCH_COLUMNS = (
    "alpha(depth)",
    "beta(width)",
    "gamma(pixels)",
    "pixels",
    "blocks",
    "parameters",
    "multiply-adds",
    "off-budget",
    "compared",
)


def family_table(num_classes: int) -> str:
    """Returns a line for each variant with its costs, widths and depths."""
    rows: list[Sequence[str]] = [_FAMILY_COLUMNS]
    for name, row in VARIANTS.items():
        arch = architecture(name)
        count = count_architecture(arch, num_classes)
        firsts = [block for block in arch.blocks if block.repeat == 0]
        repeats = [sum(block.stage == first.stage for block in arch.blocks) for first in firsts]
        rows.append(
            [
                name,
                f"{row.width:.1f}",
                f"{row.depth:.1f}",
                f"{row.resolution}",
                f"{arch.dropout_rate:.1f}",
                f"{count.params:,}",
                f"{count.batch_stats:,}",
                f"{count.macs:,}",
                f"{count_batch_norms(arch)}",
                f"{len(arch.blocks)}",
                f"{arch.stem_filters}",
                f"{arch.head_filters or '-'}",
                "-".join(map(str, repeats)),
                "-".join(str(first.output_filters) for first in firsts),
            ]
        )
    return align(rows)


def block_table(variant: str, num_classes: int, survival_probability: float) -> str:
    """Returns a line for each block of a variant, with the survival probability of its branch ("-": no skip).

    Raises:
      ValueError: If there is no such variant.
    """
    arch = architecture(variant)
    survival = survival_probabilities(len(arch.blocks), survival_probability)
    rows: list[Sequence[str]] = [_BLOCK_COLUMNS]
    for keep, (block, size, count) in zip(survival, count_blocks(arch, arch.resolution), strict=True):
        rows.append(
            [
                block.name,
                f"{block.kernel_size}",
                f"{block.strides}",
                f"{block.expand_ratio}",
                f"{block.input_filters}",
                f"{block.output_filters}",
                f"{block.se_filters}",
                f"{size}",
                f"{keep:.4f}" if block.skip else "-",
                f"{count.params:,}",
                f"{count.macs:,}",
            ]
        )
    total = count_architecture(arch, num_classes)
    summary = (
        f"{variant}: stem {arch.stem_filters}, head {arch.head_filters}, {num_classes} classes, "
        f"{arch.resolution} pixels: {total.params:,} parameters, {total.batch_stats:,} BN statistics, "
        f"{total.macs:,} multiply-adds"
    )
    return f"{align(rows)}\n{summary}"


def search_table(candidates: Sequence[Candidate], num_classes: int, within: float) -> str:
    """Returns a line for each candidate of a scaling search: its multipliers, its cost, and whether a study compares it."""
    rows: list[Sequence[str]] = [_SEARCH_COLUMNS]
    for candidate in candidates:
        arch = architecture(str(candidate.network.variant))
        count = count_architecture(arch, num_classes)
        rows.append(
            [
                *(f"{value:.2f}" for value in candidate.coefficients),
                f"{arch.resolution}",
                f"{len(arch.blocks)}",
                f"{count.params:,}",
                f"{count.macs:,}",
                f"{candidate.network.miss:+.1%}",
                "no" if candidate.problem(within) else "yes",
            ]
        )
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as lines with columns right-aligned, except the first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
