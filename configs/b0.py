"""EfficientNet-B0 on ImageNet with AutoAugment.

launch/tpu_pod.sh --config configs/b0.py     or, on one machine:  launch/local.sh --config configs/b0.py

Published top-1: 77.1 % (EMA weights; tensorflow/tpu, models/official/efficientnet, README).
Slice: v5litepod-32, 128 images on each chip.
Published time: 16.5 hours on 32 v3 cores (TF Model Garden, input-bound), so about 264 chip-hours.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b0"
    config.launch.accelerator_type = "v5litepod-32"
    return config
