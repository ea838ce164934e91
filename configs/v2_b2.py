"""EfficientNetV2-B2 on ImageNet, progressively from 148 to 208 pixels.

launch/tpu_pod.sh --config configs/v2_b2.py     or, on one machine:  launch/local.sh --config configs/v2_b2.py

Published top-1: 80.5 % at 260 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5litepod-32, 128 images on each chip.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_config()
    config.model.variant = "v2_b2"
    config.image_size = 208  # [effnetv2_configs.py]
    config.evaluation.image_size = 260  # [effnetv2_configs.py]
    return config
