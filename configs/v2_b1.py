"""EfficientNetV2-B1 on ImageNet, progressively from 144 to 192 pixels.

launch/tpu_pod.sh --config configs/v2_b1.py     or, on one machine:  launch/local.sh --config configs/v2_b1.py

Published top-1: 79.8 % at 240 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5litepod-32, 128 images on each chip.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_config()
    config.model.variant = "v2_b1"
    config.image_size = 192  # [effnetv2_configs.py]
    config.evaluation.image_size = 240  # [effnetv2_configs.py]
    return config
