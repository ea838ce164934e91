"""Draws docs/figures/accuracy.svg: published ImageNet accuracy against the number of parameters.

python -m docs.figures.accuracy

The parameters are counted by this project for 1,000 classes. The accuracies are the published ones, single crop and without
extra data; none of them was measured here. Sources: [readme] tensorflow/tpu, models/official/efficientnet, row AutoAugment;
[automl] google/automl, efficientnetv2, ImageNet-1k only; [paper] Tan and Le, arXiv 1905.11946, tables 2 and 3.
"""

from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt

from pipeline.model.counting import count_architecture
from pipeline.model.scaling import architecture

# Top-1 in percent by variant.
PUBLISHED = {
    "EfficientNet": {
        "b0": 77.1,
        "b1": 79.1,
        "b2": 80.1,
        "b3": 81.6,
        "b4": 82.9,
        "b5": 83.6,
        "b6": 84.0,
        "b7": 84.3,
    },  # [readme]
    "EfficientNetV2": {"v2_s": 83.9, "v2_m": 85.2, "v2_l": 85.7},  # [automl]
    "ResNet": {"resnet50": 76.0, "resnet152": 77.8},  # [paper]
    "MobileNet": {"mobilenet_v1": 70.6, "mobilenet_v2": 72.0},  # [paper]
}
LABELS = {"resnet50": "50", "resnet152": "152", "mobilenet_v1": "V1", "mobilenet_v2": "V2"}


def points(accuracies: dict[str, float]) -> list[tuple[str, float, float]]:
    """Returns (label, million parameters, top-1 in percent) for each variant."""
    return [
        (
            LABELS.get(variant, variant.removeprefix("v2_").upper()),
            count_architecture(architecture(variant), 1000).params / 1e6,
            top1,
        )
        for variant, top1 in accuracies.items()
    ]


def main() -> None:
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "accuracy", "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for family, accuracies in PUBLISHED.items():
        labels, params, top1 = zip(*points(accuracies), strict=True)
        line = "none" if family == "MobileNet" else "-"  # its two networks are not two sizes of one
        axes.plot(params, top1, linestyle=line, marker="o", markersize=5, label=family)
        for label, x, y in zip(labels, params, top1, strict=True):
            axes.annotate(
                label,
                (x, y),
                xytext=(6, 5 if family == "EfficientNetV2" else -11),
                textcoords="offset points",
                fontsize=9,
            )
    axes.set_xscale("log")
    axes.set_xticks([3, 5, 10, 20, 50, 100], labels=["3", "5", "10", "20", "50", "100"])
    axes.set_ylim(69.5, 86.8)
    axes.minorticks_off()
    axes.set_xlabel("parameters, millions (counted here)")
    axes.set_ylabel("ImageNet top-1, % (published)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(Path(__file__).with_name("accuracy.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
