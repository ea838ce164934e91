"""EfficientNetV2-L on ImageNet, progressively from 192 to 384 pixels.

launch/tpu_pod.sh --config configs/v2_l.py     or, on one machine:  launch/local.sh --config configs/v2_l.py

Published top-1: 85.7 % at 480 pixels (EMA weights; google/automl, efficientnetv2, README).
Slice: v5p-64, which is 32 chips, 128 images on each.
"""

from ml_collections import ConfigDict

from configs import v2_recipe


def get_config() -> ConfigDict:
    config = v2_recipe.get_large_config()
    config.model.variant = "v2_l"
    config.image_size = 384  # [effnetv2_configs.py]
    config.evaluation.image_size = 480  # [effnetv2_configs.py]
    config.data.randaugment_magnitude = 20.0  # [effnetv2_configs.py]
    config.loss.mixup_alpha = config.loss.cutmix_alpha = 0.5  # [effnetv2_configs.py]
    config.launch.accelerator_type = "v5p-64"
    return config
