"""A study of networks that compile in seconds, a few steps each; for tests of the whole way."""

from ml_collections import ConfigDict

from configs import scale


def get_config() -> ConfigDict:
    config = scale.get_config()
    config.train = "tests/configs/tiny.py"
    config.overrides = (
        "virtual_devices=1",
        "duration=6 steps",
        "evaluation.every=6 steps",
        "checkpoint.every=2 steps",
        "log.every=6 steps",
        "log.tensorboard=False",
    )
    config.baselines = ("tiny:resolution=16",)
    config.search.step = 0.25
    config.search.slack = 0.2
    config.search.candidates = 2
    config.comparison.times = (2.0,)
    config.comparison.seeds = 1
    config.tolerance = 0.2
    config.maps = 2
    return config
