"""Prints the paper's tables of sizes and costs, with our counts beside the published figures.

Parameters and multiply-adds (the paper's FLOPs) are counted from the networks of `model/`. Accuracies are the published ones
and are marked as such. Nothing is trained here.

Source: [paper] Tan and Le, arXiv 1905.11946v5, tables 2, 3, 4 and 7.
"""

import dataclasses

from pipeline.model.counting import Count, count_architecture
from pipeline.model.scaling import architecture
from pipeline.model.tables import align

CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Compared:
    """A row of table 2: a network beside the EfficientNet of about its accuracy.

    Attributes:
      efficientnet: The EfficientNet's variant.
      other: The other network's name in the paper.
      millions: The other network's parameters, in millions [paper].
      params_times: The ratio of these parameters to the EfficientNet's [paper].
      billions: The other network's multiply-adds, in billions [paper]; None if the paper does not give them.
      macs_times: The ratio of these multiply-adds to the EfficientNet's [paper].
      variant: Our variant of the other network, if there is one to count.
    """

    efficientnet: str
    other: str
    millions: float
    params_times: float
    billions: float | None = None
    macs_times: float | None = None
    variant: str | None = None


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A row of table 3 or 7: a network scaled some way.

    Attributes:
      variant: The variant to count.
      setting: The scaling, in the paper's words.
      billions: Multiply-adds, in billions [paper].
      top1: Top-1 accuracy in per cent [paper].
      note: A remark on the row.
    """

    variant: str
    setting: str
    billions: float
    top1: float
    note: str = ""


TABLE_2 = (
    Compared("b0", "ResNet-50", 26, 4.9, 4.1, 11, "resnet50"),
    Compared("b0", "DenseNet-169", 14, 2.6, 3.5, 8.9),
    Compared("b1", "ResNet-152", 60, 7.6, 11, 16, "resnet152"),
    Compared("b1", "DenseNet-264", 34, 4.3, 6.0, 8.6),
    Compared("b1", "Inception-v3", 24, 3.0, 5.7, 8.1),
    Compared("b1", "Xception", 23, 3.0, 8.4, 12),
    Compared("b2", "Inception-v4", 48, 5.2, 13, 13),
    Compared("b2", "Inception-ResNet-v2", 56, 6.1, 13),
    Compared("b3", "ResNeXt-101", 84, 7.0, 32, 18),
    Compared("b3", "PolyNet", 92, 7.7, 35, 19),
    Compared("b4", "SENet", 146, 7.7, 42, 10),
    Compared("b4", "NASNet-A", 89, 4.7, 24, 5.7),
    Compared("b4", "AmoebaNet-A", 87, 4.6, 23),
    Compared("b4", "PNASNet", 86, 4.5, 23),
    Compared("b5", "AmoebaNet-C", 155, 5.2, 41, 4.1),
    Compared("b7", "GPipe", 557, 8.4),
)
# Parameters in millions, multiply-adds in billions, top-1 in per cent: the EfficientNet rows of table 2.
TABLE_2_SIZES = {
    "b0": (5.3, 0.39, 77.1),
    "b1": (7.8, 0.70, 79.1),
    "b2": (9.2, 1.0, 80.1),
    "b3": (12, 1.8, 81.6),
    "b4": (19, 4.2, 82.9),
    "b5": (30, 9.9, 83.6),
    "b6": (43, 19, 84.0),
    "b7": (66, 37, 84.3),
}
_UNSTATED = "coefficients not in the paper: counted with 1.4, 1.2, 1.3"
_SWAPPED = "swapped in the paper: {} belongs to this row"
TABLE_3 = (
    Scaled("mobilenet_v1", "baseline", 0.6, 70.6),
    Scaled("mobilenet_v1:width=2", "width 2", 2.2, 74.2),
    Scaled("mobilenet_v1:resolution=448", "resolution 2", 2.2, 72.7),
    Scaled("mobilenet_v1:depth=1.4,width=1.2,resolution=291", "d 1.4, w 1.2, r 1.3", 2.3, 75.6, "2.24 at 288 pixels"),
    Scaled("mobilenet_v2", "baseline", 0.3, 72.0),
    Scaled("mobilenet_v2:depth=4", "depth 4", 1.2, 76.8),
    Scaled("mobilenet_v2:width=2", "width 2", 1.1, 76.4),
    Scaled("mobilenet_v2:resolution=448", "resolution 2", 1.2, 74.8),
    Scaled("mobilenet_v2:depth=1.4,width=1.2,resolution=291", "compound", 1.3, 77.4, _UNSTATED),
    Scaled("resnet50", "baseline", 4.1, 76.0),
    Scaled("resnet50:depth=4", "depth 4", 16.2, 78.1, _SWAPPED.format(14.7)),
    Scaled("resnet50:width=2", "width 2", 14.7, 77.7, _SWAPPED.format(16.2)),
    Scaled("resnet50:resolution=448", "resolution 2", 16.4, 77.5),
    Scaled("resnet50:depth=1.4,width=1.2,resolution=291", "compound", 16.7, 78.8, _UNSTATED),
)
TABLE_7 = (
    Scaled("b0", "baseline", 0.4, 77.3),
    Scaled("b0:depth=4", "depth 4", 1.8, 79.0),
    Scaled("b0:width=2", "width 2", 1.8, 78.9),
    Scaled("b0:resolution=448", "resolution 2", 1.9, 79.1),
    Scaled("b0:depth=1.4,width=1.2,resolution=300", "d 1.4, w 1.2, r 1.3", 1.8, 81.1, "the network of B3"),
)
TABLE_4 = {"resnet152": 0.554, "b1": 0.098, "b7": 3.1}  # seconds an image, batch 1, one core of a Xeon E5-2690 [paper]


def counted(variant: str) -> Count:
    """Counts a network with 1000 classes at its own resolution."""
    return count_architecture(architecture(variant), CLASSES)


def tables() -> str:
    """Returns tables 2, 3 and 7 as text. Each figure is marked as counted or published."""
    return "\n\n".join(
        [
            "Table 2: sizes (top-1 is the published one)\n" + align(_sizes()),
            "Table 2: how many times the parameters and the multiply-adds\n" + align(_ratios()),
            "Table 3: scaling MobileNet and ResNet (top-1 is the published one)\n" + align(_scaled(TABLE_3)),
            "Table 7: scaling B0 (top-1 is the published one)\n" + align(_scaled(TABLE_7)),
        ]
    )


def _sizes() -> list[list[str]]:
    rows = [["network", "pixels", "M params", "published", "B multiply-adds", "published", "top-1"]]
    for variant, (millions, billions, top1) in TABLE_2_SIZES.items():
        count, pixels = counted(variant), architecture(variant).resolution
        figures = [
            f"{count.params / 1e6:.2f}",
            f"{millions:g}",
            f"{count.macs / 1e9:.3f}",
            f"{billions:g}",
            f"{top1:.1f}",
        ]
        rows.append([variant, f"{pixels}", *figures])
    return rows


def _ratios() -> list[list[str]]:
    """Returns ratios to our counts. The published figures stand in for networks that we do not have."""
    rows = [["beside", "network", "", "x params", "published", "x multiply-adds", "published"]]
    for row in TABLE_2:
        ours = counted(row.efficientnet)
        params, macs, how = 1e6 * row.millions, 1e9 * (row.billions or 0), "its published size"
        if row.variant is not None:
            other = counted(row.variant)
            params, macs, how = other.params, other.macs, "counted"
        times = [
            "-" if not macs else f"{macs / ours.macs:.1f}",
            "-" if row.macs_times is None else f"{row.macs_times:g}",
        ]
        rows.append([row.efficientnet, row.other, how, f"{params / ours.params:.1f}", f"{row.params_times:g}", *times])
    return rows


def _scaled(table: tuple[Scaled, ...]) -> list[list[str]]:
    rows = [["network", "setting", "params", "B multiply-adds", "published", "top-1", "note"]]
    for row in table:
        count = counted(row.variant)
        figures = [f"{count.params:,}", f"{count.macs / 1e9:.2f}", f"{row.billions:g}", f"{row.top1:.1f}"]
        rows.append([row.variant.partition(":")[0], row.setting, *figures, row.note])
    return rows
