"""EfficientNet-B4 on ImageNet with AutoAugment.

launch/tpu_pod.sh --config configs/b4.py     or, on one machine:  launch/local.sh --config configs/b4.py

Published top-1: 82.9 % (EMA weights; tensorflow/tpu, models/official/efficientnet, README).
Slice: v6e-32, 128 images on each chip.
Published time: 21 hours on 32 v3 cores (arXiv 2104.00298, table 7), so about 336 chip-hours.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b4"
    config.launch.accelerator_type = "v6e-32"
    return config
