"""EfficientNet-Lite: no squeeze-and-excitation, ReLU6, and ends that do not scale.

Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
"""

import dataclasses

from pipeline.model.families.efficientnet import B0
from pipeline.model.specs import Family, Variant

FAMILY = Family(
    name="efficientnet-lite", activation="relu6", survival_probability=0.8, preprocessing="lite", fixed_ends=True
)

LITE0 = dataclasses.replace(
    B0, family=FAMILY, stages=tuple(dataclasses.replace(stage, se_ratio=0.0) for stage in B0.stages)
)

VARIANTS = {
    # width, depth, pixels, dropout
    "lite0": Variant(LITE0, 1.0, 1.0, 224, 0.2),
    "lite1": Variant(LITE0, 1.0, 1.1, 240, 0.2),
    "lite2": Variant(LITE0, 1.1, 1.2, 260, 0.3),
    "lite3": Variant(LITE0, 1.2, 1.4, 280, 0.3),
    "lite4": Variant(LITE0, 1.4, 1.8, 300, 0.3),
}
