"""`configs/fashion_mnist.py` with progressive learning, in four stages of 12 to 28 pixels: see docs/progressive.md.

launch/local.sh --config configs/fashion_mnist_progressive.py

For your own data, set `config.progressive.stages` in your configuration. A run prints its stages at its start.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.progressive.stages = 4
    config.progressive.image_sizes = (12, 16, 20, 28)
    return config
