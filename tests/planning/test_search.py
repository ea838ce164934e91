"""The search over variants of a configuration, with plans whose speed and memory are made up."""

import types

from configs import b0
from pipeline.planning import search


def plans(fits, speed):
    """Returns a `make_plan` and the list of what it was asked for."""
    asked = []

    def make_plan(flags, config):
        asked.append((config.batch_size, config.model.remat, config.model.bn_batch))
        estimate = types.SimpleNamespace(images_per_second=speed(config)) if fits(config) else None
        return types.SimpleNamespace(
            estimate=estimate, hparams=types.SimpleNamespace(batch_size=config.batch_size), flags=flags
        )

    return make_plan, asked


def test_the_configuration_itself_is_kept_where_it_fits_and_nothing_is_faster():
    make_plan, asked = plans(lambda config: True, lambda config: 100.0 - 20 * config.model.remat)
    flags, _ = search.best(b0.get_config(), 32, make_plan)
    assert flags == "--config.batch_size=4096 --config.model.remat=False --config.model.bn_batch=512"
    assert {batch for batch, _, _ in asked} == {4096}  # smaller batches are another recipe


def test_recomputing_is_found_where_memory_is_short():
    make_plan, _ = plans(lambda config: config.model.remat, lambda config: 100.0)
    flags, _ = search.best(b0.get_config(), 32, make_plan)
    assert "--config.model.remat=True" in flags


def test_smaller_batches_are_tried_until_one_fits():
    make_plan, asked = plans(lambda config: config.batch_size <= 1024, lambda config: float(config.batch_size))
    flags, _ = search.best(b0.get_config(), 32, make_plan)
    assert "--config.batch_size=1024 " in flags
    assert min(batch for batch, _, _ in asked) == 1024


def test_statistics_of_one_device_are_proposed_only_when_they_pay():
    make_plan, _ = plans(lambda config: True, lambda config: 105.0 if config.model.bn_batch == 128 else 100.0)
    assert "--config.model.bn_batch=128" in search.best(b0.get_config(), 32, make_plan)[0]
    make_plan, _ = plans(lambda config: True, lambda config: 101.0 if config.model.bn_batch == 128 else 100.0)
    assert "--config.model.bn_batch=512" in search.best(b0.get_config(), 32, make_plan)[0]


def test_nothing_fits():
    make_plan, asked = plans(lambda config: False, lambda config: 0.0)
    assert search.best(b0.get_config(), 32, make_plan) is None
    assert min(batch for batch, _, _ in asked) == 32  # down to one image on each device
