"""A search among networks that compile in seconds, a few steps each; for tests of the whole way."""

from ml_collections import ConfigDict

from configs import search


def get_config() -> ConfigDict:
    config = search.get_config()
    config.train = "tests/configs/tiny.py"
    config.overrides = (
        "virtual_devices=1",
        "duration=6 steps",
        "evaluation.every=6 steps",
        "checkpoint.every=6 steps",
        "log.every=6 steps",
        "log.tensorboard=False",
    )
    config.proxy = ("duration=4 steps", "evaluation.every=4 steps")
    config.held_out = 20
    config.baseline = "tiny:resolution=16"
    config.limits.cost = 3.0
    config.trials = 12
    config.evolution.population = 4
    config.evolution.tournament = 2
    config.full.predicted = 4
    config.full.best = 2
    config.full.seeds = 2
    return config
