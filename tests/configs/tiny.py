"""The quickstart with a network of three blocks that compiles in seconds; `tiniest.py` is for tests that start whole runs."""

import dataclasses

from ml_collections import ConfigDict

from configs import quickstart
from pipeline.model.families import VARIANTS
from pipeline.model.specs import Baseline, Family, StageSpec, Variant

TINY = Baseline(
    family=Family("tiny", activation="swish", survival_probability=0.8),
    stages=(StageSpec(1, 3, 1, 1, 8), StageSpec(2, 3, 2, 2, 8)),
    stem_filters=8,
    stem_strides=2,
    head_filters=16,
    resolution=8,
    dropout_rate=0.2,
)
VARIANTS["tiny"] = Variant(TINY, 1.0, 1.0, 8, 0.2)
TINIEST = dataclasses.replace(TINY, stages=(StageSpec(2, 3, 1, 1, 8),))
VARIANTS["tiniest"] = Variant(TINIEST, 1.0, 1.0, 8, 0.2)


def get_config() -> ConfigDict:
    config = quickstart.get_config()
    config.model.variant = "tiny"
    config.model.bn_batch = 16
    config.image_size = 8
    config.batch_size = 32
    config.duration = "12 steps"
    config.schedule.warmup = "2 steps"
    config.evaluation.every = "6 steps"
    config.evaluation.batch_size = 64
    config.checkpoint.every = "4 steps"
    config.checkpoint.keep = 2
    config.log.every = "3 steps"
    config.data.workers = 0
    return config
