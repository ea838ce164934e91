"""EfficientNetV2-B3 on ImageNet, progressively from 156 to 240 pixels.

launch/tpu_pod.sh --config configs/v2_b3.py     or, on one machine:  launch/local.sh --config configs/v2_b3.py

Published top-1: 82.1 % at 300 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5litepod-32, 128 images on each chip.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_config()
    config.model.variant = "v2_b3"
    config.image_size = 240  # [effnetv2_configs.py]
    config.evaluation.image_size = 300  # [effnetv2_configs.py]
    return config
