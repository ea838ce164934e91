import json

import pytest

from configs import recipe
from pipeline.errors import ConfigError
from pipeline.training.compatibility import check_same_data, check_unchanged


def as_saved(**changes):
    config = recipe.get_config()
    config.update_from_flattened_dict(changes)
    return json.loads(config.to_json_best_effort())


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 2048},
        {"seed": 1},
        {"data.name": "digits"},
        {"data.crop_area": (0.1, 1.0)},
        {"schedule.lr_per_256": 0.02},
        {"model.variant": "b1"},
        {"model.bn_batch": 128},
        {"loss.mixup_alpha": 0.2},
        {"ema.decay": 0.0},
    ],
)
def test_a_change_of_the_trajectory_is_refused_with_both_values(change):
    (key, value), old = next(iter(change.items())), as_saved()
    with pytest.raises(ConfigError) as error:
        check_unchanged(old, as_saved(**change), "runs/b0")
    assert f"config.{key}: " in str(error.value)
    assert repr(list(value) if isinstance(value, tuple) else value) in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"log.every": "1 steps"},
        {"checkpoint.keep": 1},
        {"evaluation.every": "7 epochs"},
        {"data.workers": 3},
        {"launch.spot": True},
        {"duration": "400 epochs"},  # the exponential schedule does not look at the end
    ],
)
def test_what_changes_no_bit_of_the_state_just_applies(change):
    check_unchanged(as_saved(), as_saved(**change), "runs/b0")


def test_a_longer_run_changes_a_cosine_schedule():
    with pytest.raises(ConfigError, match=r"config\.duration"):
        check_unchanged(
            as_saved(**{"schedule.name": "cosine"}),
            as_saved(**{"schedule.name": "cosine", "duration": "400 epochs"}),
            "runs/b0",
        )


def test_other_data_are_refused():
    check_same_data("0123", "0123", "runs/b0")
    with pytest.raises(ConfigError, match="0123, now 4567"):
        check_same_data("0123", "4567", "runs/b0")
