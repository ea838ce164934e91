"""The table of domains: it has every key of the recipe, lets through what people use, and names what cannot work."""

import importlib
import pathlib

import pytest

from configs import recipe
from pipeline import command
from pipeline.configuration import domains
from pipeline.data import resizing
from pipeline.data.augmentation import levels
from pipeline.errors import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_TRAINED = ("__init__", "recipe", "v2_recipe")
CONFIGS = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in NOT_TRAINED
    and not path.stem.startswith(("scale", "search"))  # studies, which have a structure of their own
)


def test_every_key_of_the_recipe_has_a_domain_and_no_other_has():
    assert set(domains.DOMAINS) == set(command._leaf_types(recipe.get_config()))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_lies_in_the_domains(name):
    assert domains.problems(importlib.import_module(f"configs.{name}").get_config()) == []


def test_the_choices_are_those_that_the_code_knows():
    assert domains.DOMAINS["data.resize"].choices == resizing.METHODS
    assert domains.DOMAINS["data.augment_semantics"].choices == levels.SEMANTICS


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", -1, "config.seed is -1; expected a whole number from 0 to 4,294,967,295"),
        ("seed", 2**32, "whole number from 0"),
        ("batch_size", 0, "whole number from 1 to 1,048,576"),
        ("image_size", -224, "whole number from 8 to 4,096"),
        ("image_size", 10**9, "whole number from 8 to 4,096"),
        ("virtual_devices", 0, "whole number from 1"),
        ("platform", "TPU", "one of tpu, gpu, cpu"),
        ("duration", "-3 epochs", "a number and a unit, epochs or steps"),
        ("duration", "15 minutes", "a number and a unit, epochs or steps"),
        ("data.name", "", "a text that is not empty"),
        ("data.mean_rgb", (0.5, NAN, 0.5), "3 numbers, each number from 0 to 255"),
        ("data.mean_rgb", (0.5, 0.5), "3 numbers"),
        ("data.stddev_rgb", (58.0, 0.0, 57.0), "3 numbers, each number, more than 0 and at most 255"),
        ("data.stddev_rgb", (58.0, INFINITE, 57.0), "3 numbers"),
        ("data.crop_area", (0.5, 0.1), "none less than the one before"),
        ("data.workers", -2, "whole number from -1"),
        ("data.max_bad_images", -1, "whole number, 0 or more"),
        ("data.random_erasing", NAN, "a number from 0 to 1"),
        ("model.dropout_rate", 1.0, "a number, 0 or more and less than 1"),
        ("model.survival_probability", 0.0, "a number, more than 0 and at most 1"),
        ("model.bn_momentum", 1.0, "less than 1"),
        ("model.bn_epsilon", 0.0, "more than 0"),
        ("model.bn_epsilon", NAN, "more than 0"),
        ("model.dtype", "bf16", "one of bfloat16, float32, float16"),
        ("progressive.stages", 0, "a whole number from 1 to 1,000"),
        ("progressive.ends", ("50",), "texts such as '10 epochs', each more than 0, in epochs, steps or %"),
        ("progressive.ends", (10,), "texts such as '10 epochs'"),
        ("progressive.ends", ("0 %",), "each more than 0"),
        ("progressive.ends", ("5 minutes",), "in epochs, steps or %"),
        ("progressive.image_sizes", (8.5, 16), "each whole number from 8 to 4,096"),
        ("progressive.mixup_alphas", (0.0, -0.1), "each number from 0 to 100"),
        ("progressive.dropout_rates", (0.2, 1.0), "each number, 0 or more and less than 1"),
        ("finetune.head", "newish", "one of auto, keep, new"),
        ("finetune.stage_lr_factor", 0.0, "more than 0"),
        ("loss.label_smoothing", 1.0, "less than 1"),
        ("loss.label_smoothing", -0.1, "0 or more"),
        ("loss.weight_decay", -1e-5, "a number from 0 to 1"),
        ("loss.mixup_alpha", -0.2, "a number from 0 to 100"),
        ("loss.cutmix_alpha", INFINITE, "a number from 0 to 100"),
        ("optimizer.name", "adam", "one of rmsprop, lars"),
        ("optimizer.momentum", 1.0, "less than 1"),
        ("optimizer.decay", 1.5, "less than 1"),
        ("optimizer.epsilon", 0.0, "a finite number, more than 0"),
        ("schedule.name", "step", "one of exponential, cosine, polynomial, constant"),
        ("schedule.lr_per_256", NAN, "a finite number, more than 0"),
        ("schedule.lr_per_256", -0.016, "a finite number, more than 0"),
        ("schedule.decay_rate", 1.03, "more than 0 and at most 1"),
        ("schedule.decay_every", "0 epochs", "more than 0"),
        ("schedule.final_lr", -0.1, "0 or more"),
        ("ema.decay", 1.0, "less than 1"),
        ("ema.decay", -0.5, "less than 1"),
        ("checkpoint.also_every", "1 epochs", "minutes"),
        ("checkpoint.keep", 0, "whole number, 1 or more"),
        ("watchdog.peer_seconds", 0, "whole number, 1 or more"),
        ("watchdog.warn_seconds", -1, "whole number, 0 or more"),
    ],
)
def test_a_value_outside_its_domain_is_named_before_anything_starts(key, value, expected):
    config = recipe.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError) as error:
        command.checked(config)
    assert f"config.{key} is {value!r}; expected " in str(error.value)
    assert expected in str(error.value)


def test_all_wrong_values_are_named_at_once():
    config = recipe.get_config()
    config.seed, config.loss.label_smoothing = -1, 2.0
    with pytest.raises(ConfigError, match=r"config\.seed is -1; .*; config\.loss\.label_smoothing is 2\.0; "):
        command.checked(config)
