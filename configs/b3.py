"""EfficientNet-B3 on ImageNet with AutoAugment.

launch/tpu_pod.sh --config configs/b3.py     or, on one machine:  launch/local.sh --config configs/b3.py

Published top-1: 81.6 % (EMA weights; tensorflow/tpu, models/official/efficientnet, README).
Slice: v5litepod-32, 128 images on each chip.
Published time: 10 hours on 32 v3 cores (arXiv 2104.00298, table 7), so about 160 chip-hours.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b3"
    config.launch.accelerator_type = "v5litepod-32"
    return config
