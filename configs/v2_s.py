"""EfficientNetV2-S on ImageNet, progressively from 171 to 300 pixels.

launch/tpu_pod.sh --config configs/v2_s.py     or, on one machine:  launch/local.sh --config configs/v2_s.py

Published top-1: 83.9 % at 384 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5litepod-32, 128 images on each chip.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_large_config()
    config.model.variant = "v2_s"
    config.image_size = 300  # [effnetv2_configs.py]
    config.evaluation.image_size = 384  # [effnetv2_configs.py]
    config.data.randaugment_magnitude = 10.0  # [effnetv2_configs.py]
    return config
