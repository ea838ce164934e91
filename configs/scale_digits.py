"""A complete scaling study of small digits in about ten minutes on two cores. It demonstrates the method and proves nothing.

python -m pipeline.scale --quick --workdir runs/scale_quick --parallel 2

Its networks train for seconds, and each of the 360 test images weighs 0.28 points.
"""

from ml_collections import ConfigDict

from configs import scale


def get_config() -> ConfigDict:
    config = scale.get_config()
    config.train = "configs/quickstart.py"
    config.overrides = (
        "duration=30 epochs",
        "virtual_devices=1",
        "batch_size=64",
        "schedule.warmup=1 epochs",
        "ema.decay=0.99",
        "evaluation.every=30 epochs",
        "checkpoint.every=30 epochs",
        "checkpoint.keep=1",
        "log.every=30 epochs",
        "log.tensorboard=False",
    )
    config.baselines = ("mini0:width=0.5,resolution=10",)
    config.search.step = 0.05
    config.search.candidates = 4
    config.comparison.seeds = 2
    config.maps = 4
    return config
