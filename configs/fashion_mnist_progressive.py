"""`configs/fashion_mnist.py` with progressive learning: the same accuracy in less time. docs/progressive.md has both.

launch/local.sh --config configs/fashion_mnist_progressive.py

For data of your own: take your configuration, set `config.progressive.stages` and look at the stages that it prints at start.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.progressive.stages = 4
    config.progressive.image_sizes = (12, 16, 20, 28)
    return config
