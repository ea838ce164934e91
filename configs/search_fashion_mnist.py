"""A search around a small network on Fashion-MNIST: does evolution find a better baseline than random search and than ours?

python -m pipeline.prepare --image_folder FOLDER --name fashion_mnist     (FOLDER/train/<class>/*.png, FOLDER/test/…)
python -m pipeline.search --config configs/search_fashion_mnist.py --workdir runs/search_fashion_mnist --parallel 2

Evolution and random search have two seeds of 100 trials each. A trial trains for half an epoch of 54,000 images and is judged
by the 6,000 held out. Ten networks train for five epochs on the same split, which tells whether the short trials predict
anything. docs/search.md says what the search costs.
"""

from ml_collections import ConfigDict

from configs import search


def get_config() -> ConfigDict:
    config = search.get_config()
    config.train = "configs/fashion_mnist.py"
    config.overrides = (
        "duration=5 epochs",
        "batch_size=128",
        "schedule.warmup=0.5 epochs",
        "evaluation.every=5 epochs",
        "checkpoint.every=2 epochs",
        "checkpoint.keep=1",
        "log.every=2 epochs",
        "log.tensorboard=False",
    )
    config.held_out = 10
    config.baseline = "mini0:width=0.6,resolution=16"
    config.limits.cost = 1.5
    config.proxy = (
        "duration=0.5 epochs",
        "schedule.warmup=0.05 epochs",
        "ema.decay=0.95",
        "model.bn_momentum=0.9",  # of 211 steps, 0.99 would leave an eighth of the statistics' first values
        "evaluation.every=0.5 epochs",
        "checkpoint.every=0.5 epochs",
        "log.every=0.5 epochs",
    )
    return config
