"""EfficientNet-B2 on ImageNet with AutoAugment.

launch/tpu_pod.sh --config configs/b2.py     or, on one machine:  launch/local.sh --config configs/b2.py

Published top-1: 80.1 % (EMA weights; tensorflow/tpu, models/official/efficientnet, README).
Slice: v5litepod-32, 128 images on each chip.
Published time: 8.6 hours on 32 v3 cores (derived from arXiv 2011.00071), so about 138 chip-hours.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b2"
    config.launch.accelerator_type = "v5litepod-32"
    return config
