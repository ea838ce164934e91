"""A small EfficientNet on 1,797 real handwritten digits, which trains within minutes on a laptop.

launch/local.sh

The digits come with scikit-learn, so nothing is downloaded. Accuracy and time: see the README.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.duration = "30 epochs"
    config.virtual_devices = 8
    config.batch_size = 64
    config.image_size = 16
    config.data.name = "digits"
    config.data.flip = False  # a mirrored digit is not that digit
    config.model.variant = "mini0"
    config.model.bn_batch = 64
    config.evaluation.every = "10 epochs"
    config.evaluation.batch_size = 64
    config.checkpoint.every = "5 epochs"
    config.log.every = "5 epochs"
    return config
