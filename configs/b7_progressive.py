"""EfficientNet-B7 with EfficientNetV2's training: small images first.

launch/tpu_pod.sh --config configs/b7_progressive.py     or, on one machine:  launch/local.sh --config configs/b7_progressive.py

Published: 85.0 % instead of 84.7 %, in 54 instead of 139 hours on 32 v3 cores (arXiv 2104.00298, table 9). Neither paper nor
code states the image sizes and magnitudes, so those here are chosen. The last size follows google/automl's rule for networks
of the first generation: 0.8 of the evaluation size, as a multiple of 16. Augmentation is that of V2-M, which has about as many
parameters. Slice: v5p-64, which is 32 chips, 128 images on each.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    config = recipe.get_config()
    config.model.variant = "b7"
    config.image_size = 480  # [google/automl, efficientnetv2/datasets.py]
    config.evaluation.image_size = 600
    config.progressive.stages = 4  # of 216, 304, 392 and 480 pixels
    config.data.augment = "randaugment"
    config.data.randaugment_magnitude = 15.0  # rises from 5
    config.loss.mixup_alpha = config.loss.cutmix_alpha = 0.2  # rise from 0
    config.launch.accelerator_type = "v5p-64"
    return config
