"""`configs/fashion_mnist.py` with progressive learning, in four stages of 12 to 28 pixels: see docs/progressive.md.

launch/local.sh --config configs/fashion_mnist_progressive.py

For data of your own, set `config.progressive.stages` in the configuration that trains them. The run prints its stages at start.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.progressive.stages = 4
    config.progressive.image_sizes = (12, 16, 20, 28)
    return config
