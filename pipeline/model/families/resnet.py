"""ResNet-50, -101 and -152.

"v1.5", the default, has a block's stride on the 3x3 convolution, as in tensorflow/tpu, torchvision, NVIDIA's models and the
papers' comparisons. "v1" has it on the first 1x1 convolution, as first published and in keras.applications.ResNet50, whose
BatchNorm epsilon is 1.001e-5.

Source: He et al., arXiv 1512.03385, table 1; tensorflow/tpu, models/official/resnet/resnet_model.py (padding, BatchNorm
momentum and epsilon, the last scale of a block that starts at 0).
"""

import dataclasses

from pipeline.model.specs import Baseline, Family, StageSpec, Variant

FAMILY = Family(
    name="resnet",
    activation="relu",
    padding="symmetric",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    initializers="resnet",
)
FAMILY_V1 = dataclasses.replace(FAMILY, name="resnet-v1", bn_momentum=0.99, bn_epsilon=1.001e-5, preprocessing="caffe")


def _baseline(family: Family, block: str, repeats: tuple[int, int, int, int]) -> Baseline:
    strides, filters = (1, 2, 2, 2), (256, 512, 1024, 2048)
    return Baseline(
        family=family,
        stages=tuple(
            StageSpec(*row, block=block, se_ratio=0.0) for row in zip(repeats, (3,) * 4, strides, (4,) * 4, filters)
        ),
        stem_filters=64,
        stem_strides=2,
        head_filters=0,
        resolution=224,
        dropout_rate=0.0,
        stem_kernel_size=7,
        stem_pool=True,
    )


_REPEATS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# v1 comes first: v1.5 has the same tensors, and Keras's files, which do not name the version, hold v1.
VARIANTS = {
    f"resnet{layers}{suffix}": Variant(_baseline(family, block, repeats), 1.0, 1.0, 224, 0.0)
    for suffix, family, block in (("_v1", FAMILY_V1, "bottleneck_v1"), ("", FAMILY, "bottleneck"))
    for layers, repeats in _REPEATS.items()
}
