"""MobileNet: depthwise separable convolutions, grouped into stages of equal width so that the network can be scaled.

Source: Howard et al., arXiv 1704.04861, table 1. The defaults are those of keras.applications and of TensorFlow's slim models
(mobilenet_v1.py: no weight decay on depthwise kernels). Its compound scaling: arXiv 1905.11946, table 3.
"""

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(
    name="mobilenet-v1",
    activation="relu6",
    initializers="mobilenet",
    weight_decay="kernels_but_depthwise",
    preprocessing="inception",
)


def _separable(repeats: int, strides: int, output_filters: int) -> StageSpec:
    return StageSpec(repeats, 3, strides, 1, output_filters, block="separable", se_ratio=0.0)


MOBILENET_V1 = Baseline(
    family=FAMILY,
    stages=(
        # repeats, strides, output filters
        _separable(1, 1, 64),
        _separable(2, 2, 128),
        _separable(2, 2, 256),
        _separable(6, 2, 512),
        _separable(2, 2, 1024),
    ),
    stem_filters=32,
    stem_strides=2,
    head_filters=0,
    resolution=224,
    dropout_rate=0.001,
)

VARIANTS = {"mobilenet_v1": Variant(MOBILENET_V1, 1.0, 1.0, 224, 0.001)}
