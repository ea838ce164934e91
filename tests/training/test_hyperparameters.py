import pytest

from configs import recipe
from pipeline.errors import ConfigError
from pipeline.training.hyperparameters import resolve

DATA = {"num_classes": 1000, "num_train_examples": 1_281_167, "num_eval_examples": 50_000, "num_devices": 8}


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        ({"batch_size": 0}, {}, r"config\.batch_size=0 .* 8 devices, for example 8"),
        ({"batch_size": 100}, {}, r"config\.batch_size=100 .* multiple of the 8 devices, for example 96"),
        ({"evaluation.batch_size": 0}, {}, r"config\.evaluation\.batch_size=0"),
        ({"model.bn_batch": 96}, {}, r"config\.model\.bn_batch=96 does not divide config\.batch_size=4096"),
        ({"duration": "0 epochs"}, {}, r"config\.duration='0 epochs' is less than one step"),
        ({"image_size": 4}, {}, r"config\.image_size=4"),
        ({"model.variant": "b9"}, {}, "b9"),
        ({}, {"num_classes": 1}, "1 class"),
        ({}, {"num_train_examples": 0}, r"config\.data\.train_split='train' holds no example"),
        ({}, {"num_eval_examples": 0}, r"config\.data\.eval_split='validation' holds no example"),
    ],
)
def test_an_impossible_configuration_is_named(change, data, message):
    config = recipe.get_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        resolve(config, **{**DATA, **data})


def test_an_evaluation_batch_is_rounded_up_to_the_devices():
    config = recipe.get_config()
    config.evaluation.batch_size = 12
    assert resolve(config, **DATA).eval_batch_size == 16


@pytest.mark.parametrize(
    ("change", "warns"), [({}, True), ({"optimizer.name": "lars"}, False), ({"batch_size": 16384}, False)]
)
def test_a_batch_that_costs_rmsprop_its_accuracy_is_named(change, warns, caplog):
    config = recipe.get_config()
    config.update_from_flattened_dict({"batch_size": 32768, **change})
    resolve(config, **DATA)
    assert ("with RMSProp accuracy is known to fall beyond 16384" in caplog.text) == warns


def test_durations_in_steps_and_epochs_give_the_same_run():
    config = recipe.get_config()
    by_epochs = resolve(config, **DATA)
    config.duration = "109475 steps"
    assert resolve(config, **DATA) == by_epochs
    assert "109,475" in by_epochs.describe()
