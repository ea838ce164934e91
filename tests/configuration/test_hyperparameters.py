import pytest

from configs import recipe
from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import ConfigError

DATA = {"num_classes": 1000, "num_train_examples": 1_281_167, "num_eval_examples": 50_000, "num_devices": 8}


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        ({"batch_size": 0}, {}, r"config\.batch_size is 0; expected"),
        ({"batch_size": 4}, {}, r"config\.batch_size=4 .* multiple of the 8 devices, for example 8"),
        ({"batch_size": 100}, {}, r"config\.batch_size=100 .* multiple of the 8 devices, for example 96"),
        ({"evaluation.batch_size": 0}, {}, r"config\.evaluation\.batch_size is 0"),
        ({"model.bn_batch": 96}, {}, r"config\.model\.bn_batch=96 does not divide config\.batch_size=4096"),
        ({"duration": "0 epochs"}, {}, r"config\.duration='0 epochs' is less than one step"),
        ({"image_size": 4}, {}, r"config\.image_size is 4"),
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
    ("change", "message"),
    [
        (
            {"duration": "1000 steps"},
            r"schedule\.warmup='5 epochs' is 1,563 steps and .*duration='1000 steps' is 1,000",
        ),
        ({"duration": "4 epochs"}, r"before its learning rate has reached 0\.256"),
        ({"schedule.warmup": "109475 steps"}, r"is 109,475 steps and config\.duration='350 epochs' is 109,475"),
        (
            {"schedule.name": "polynomial", "batch_size": 1024},
            r"final_lr=0\.1 is absolute and not below the peak of 0\.064, .*lr_per_256=0\.016 times 1024 / 256",
        ),
        (
            {"schedule.name": "polynomial", "schedule.final_lr": 0.256},
            r"final_lr=0\.256 .* the polynomial would not fall",
        ),
        ({"schedule.name": "polynomial", "schedule.final_lr": 15.0}, "the polynomial would not fall"),
        ({"schedule.lr_per_256": 1e38}, r"1\.6e\+39, which float32 does not have"),
        ({"duration": "3000000000 steps"}, "more than the 2,147,483,647 steps possible"),
    ],
)
def test_numbers_of_a_schedule_that_contradict_each_other_are_named(change, message):
    config = recipe.get_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        resolve(config, **DATA)


def test_only_a_polynomial_has_a_final_rate_that_can_be_too_high():
    config = recipe.get_config()
    config.batch_size = 1024
    assert resolve(config, **DATA).peak_lr < config.schedule.final_lr


LARS = {
    "optimizer.name": "lars",
    "schedule.name": "polynomial",
    "schedule.lr_per_256": 0.118,
    "schedule.warmup": "50 epochs",
}


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"batch_size": 16384}, None),
        ({}, "with RMSProp accuracy is known to fall beyond 16384"),
        ({"optimizer.name": "lars"}, "with config.schedule.name='exponential' and config.schedule.lr_per_256=0.016"),
        (
            {**LARS, "schedule.lr_per_256": 0.016},
            "with config.schedule.name='polynomial' and config.schedule.lr_per_256=0.016",
        ),
        ({**LARS, "schedule.name": "cosine"}, "with config.schedule.name='cosine'"),
        (LARS, None),
    ],
)
def test_a_batch_that_costs_accuracy_is_named_with_the_whole_published_recipe(change, warning, caplog):
    config = recipe.get_config()
    config.update_from_flattened_dict({"batch_size": 32768, **change})
    resolve(config, **DATA)
    if warning is None:
        assert not caplog.records
        return
    (text,) = caplog.messages
    assert warning in text
    # arXiv 2011.00071, table 2: B2 and B5 at 32,768. The peak is 15.1.
    for part in ("optimizer.name='lars'", "schedule.name='polynomial'", "0.118", "schedule.warmup='50 epochs'"):
        assert part in text


@pytest.mark.parametrize(
    ("stddev_rgb", "warns"),
    [((0.229, 0.224, 0.225), True), ((1.0, 1.0, 1.0), True), ((0.5, 0.5, 0.5), True), ((128.0, 128.0, 128.0), False)],
)
def test_a_deviation_for_pixels_up_to_1_is_named(stddev_rgb, warns, caplog):
    config = recipe.get_config()
    config.data.stddev_rgb = stddev_rgb
    resolve(config, **DATA)
    assert ("multiply config.data.mean_rgb and config.data.stddev_rgb by 255" in caplog.text) == warns


@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({}, None),
        ({"schedule.warmup": "50 epochs"}, "54%"),  # 0.97 ** 20, with a staircase of 2.4 epochs: by hand
        ({"schedule.name": "cosine", "schedule.warmup": "175 epochs"}, "50%"),
        ({"schedule.name": "polynomial", "schedule.warmup": "175 epochs"}, None),
        ({"schedule.name": "constant", "schedule.warmup": "175 epochs"}, None),
    ],
)
def test_a_rate_that_leaps_at_the_end_of_its_warm_up_is_named(change, share, caplog):
    config = recipe.get_config()
    config.update_from_flattened_dict(change)
    resolve(config, **DATA)
    assert bool(caplog.messages) == (share is not None)
    assert share is None or f"falls at once to {share} of its peak" in caplog.text


def test_durations_in_steps_and_epochs_give_the_same_run():
    config = recipe.get_config()
    by_epochs = resolve(config, **DATA)
    config.duration = "109475 steps"
    assert resolve(config, **DATA) == by_epochs
    assert "109,475" in by_epochs.describe()


def test_evaluation_has_a_size_of_its_own_and_stages_are_said():
    config = recipe.get_config()
    one_stage = resolve(config, **DATA)
    assert (one_stage.image_size, one_stage.eval_image_size) == (224, 224)
    assert "stage" not in one_stage.describe()
    config.image_size, config.evaluation.image_size, config.progressive.stages = 192, 240, 4
    hparams = resolve(config, **DATA)
    assert (hparams.image_size, hparams.eval_image_size) == (192, 240)
    assert "stage 2                   up to step 54,737: 160 px, mixup 0, CutMix 0, dropout 0.2\n" in hparams.describe()
    config.data.augment = "randaugment"  # AutoAugment has no magnitude
    assert " 160 px, RandAugment 6.67, mixup 0, CutMix 0, dropout 0.2\n" in resolve(config, **DATA).describe()
