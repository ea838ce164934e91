"""EfficientNetV2-B0 on ImageNet, progressively from 144 to 192 pixels.

launch/tpu_pod.sh --config configs/v2_b0.py     or, on one machine:  launch/local.sh --config configs/v2_b0.py

Published top-1: 78.7 % at 224 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5litepod-32, 128 images on each chip.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_config()
    config.model.variant = "v2_b0"
    config.image_size = 192  # [effnetv2_configs.py]
    config.evaluation.image_size = 224  # [effnetv2_configs.py]
    return config
