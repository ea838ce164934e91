"""EfficientNet-B7 on ImageNet with AutoAugment.

launch/tpu_pod.sh --config configs/b7.py     or, on one machine:  launch/local.sh --config configs/b7.py

Published top-1: 84.3 % (EMA weights; tensorflow/tpu, models/official/efficientnet, README).
Slice: v5p-64, which is 32 chips, 128 images on each.
Published time: 139 hours on 32 v3 cores (arXiv 2104.00298, table 7), so about 2,224 chip-hours.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b7"
    config.launch.accelerator_type = "v5p-64"
    return config
