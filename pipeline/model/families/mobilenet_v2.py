"""MobileNetV2: inverted residuals, which are EfficientNet's blocks without squeeze-and-excitation.

Source: Sandler et al., arXiv 1801.04381, table 2. The defaults are those of keras.applications (BatchNorm momentum 0.999) and
  of TensorFlow's slim models (dropout 0.2, no weight decay on depthwise kernels). Its compound scaling: arXiv 1905.11946,
  table 3.
"""

import dataclasses

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(
    name="mobilenet-v2",
    activation="relu6",
    bn_momentum=0.999,
    initializers="mobilenet",
    weight_decay="kernels_but_depthwise",
    preprocessing="inception",
)


def _residual(repeats: int, strides: int, expand_ratio: int, output_filters: int) -> StageSpec:
    return StageSpec(repeats, 3, strides, expand_ratio, output_filters, se_ratio=0.0)


MOBILENET_V2 = Baseline(
    family=FAMILY,
    stages=(
        # repeats, strides, expand ratio, output filters
        _residual(1, 1, 1, 16),
        _residual(2, 2, 6, 24),
        _residual(3, 2, 6, 32),
        _residual(4, 2, 6, 64),
        _residual(3, 1, 6, 96),
        _residual(3, 2, 6, 160),
        _residual(1, 1, 6, 320),
    ),
    stem_filters=32,
    stem_strides=2,
    head_filters=1280,
    resolution=224,
    dropout_rate=0.2,
)

# For images of 16 to 64 pixels; this project's own, of the same blocks.
SMALL = dataclasses.replace(
    MOBILENET_V2,
    stages=(
        # repeats, strides, expand ratio, output filters
        _residual(1, 2, 1, 16),
        _residual(2, 1, 6, 24),
        _residual(2, 2, 6, 32),
        _residual(2, 2, 6, 64),
    ),
    stem_filters=16,
    stem_strides=1,
    head_filters=256,
    resolution=24,
)

VARIANTS = {
    "mobilenet_v2": Variant(MOBILENET_V2, 1.0, 1.0, 224, 0.2),
    "mobilenet_v2_small": Variant(SMALL, 1.0, 1.0, 24, 0.2),
}
