"""What may change while a run goes on, what must not, and what nobody can wish for."""

import json

import jax
import jax.numpy as jnp
import pytest

from configs import recipe
from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import ConfigError
from pipeline.runtime.mesh import make_mesh
from pipeline.training.compatibility import check_continues
from pipeline.training.experiment import Experiment
from tests.configs import tiny

STATE = {"params": jax.ShapeDtypeStruct((3,), jnp.float32)}


def as_saved(**changes):
    config = recipe.get_config()
    config.update_from_flattened_dict(changes)
    return json.loads(config.to_json_best_effort())


def check(saved, current, saved_data="0123", data="0123", saved_state=STATE, state=STATE):
    """Returns what is said; raises what is raised."""
    said = []
    check_continues(
        {"config": saved, "data": saved_data},
        {"config": current, "data": data},
        "runs/b0",
        saved_state=lambda: saved_state,
        current_state=state,
        log=said.append,
    )
    return said


CHANGES = [
    {"batch_size": 2048},
    {"seed": 1},
    {"data.name": "digits"},
    {"data.crop_area": (0.1, 1.0)},
    {"schedule.lr_per_256": 0.02},
    {"model.bn_batch": 128},
    {"loss.mixup_alpha": 0.2},
    {"progressive.stages": 4},
    {"progressive.randaugment_magnitudes": (5.0,)},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_trajectory_is_refused_with_both_values_or_said(change):
    (key, value), old = next(iter(change.items())), as_saved()
    with pytest.raises(ConfigError) as error:
        check(old, as_saved(**change))
    assert f"config.{key}: " in str(error.value)
    assert repr(list(value) if isinstance(value, tuple) else value) in str(error.value)
    assert "--config.resume_changed=True" in str(error.value)
    (line,) = check(old, as_saved(**change, resume_changed=True))
    assert line.startswith(f"Continuing with another configuration: config.{key}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"log.every": "1 steps"},
        {"checkpoint.keep": 1},
        {"evaluation.every": "7 epochs"},
        {"evaluation.image_size": 256},
        {"data.workers": 3},
        {"launch.spot": True},
        {"resume_changed": True, "resume_changed_data": True},
        {"duration": "400 epochs"},  # the exponential schedule does not look at the end
    ],
)
def test_what_changes_no_bit_of_the_state_just_applies(change):
    assert check(as_saved(), as_saved(**change)) == []


def test_a_run_of_a_version_without_the_switch_for_data_goes_on():
    old = as_saved()
    del old["resume_changed_data"]
    assert check(old, as_saved()) == []


def test_a_run_of_a_version_without_progressive_learning_goes_on_in_one_stage():
    old = as_saved()
    del old["progressive"], old["data"]["crop_covers"], old["loss"]["mix_semantics"]
    assert check(old, as_saved()) == []
    with pytest.raises(ConfigError, match=r"config\.progressive\.stages: 1 became 4"):
        check(old, as_saved(**{"progressive.stages": 4}))


def test_a_longer_run_moves_stages_that_are_shares_of_it():
    stages = {"progressive.stages": 3}
    with pytest.raises(ConfigError, match=r"config\.duration"):
        check(as_saved(**stages), as_saved(**stages, duration="400 epochs"))
    by_steps = stages | {"progressive.ends": ("10 epochs", "5000 steps")}
    assert check(as_saved(**by_steps), as_saved(**by_steps, duration="400 epochs")) == []


def test_a_longer_run_changes_a_cosine_schedule():
    with pytest.raises(ConfigError, match=r"config\.duration"):
        check(
            as_saved(**{"schedule.name": "cosine"}), as_saved(**{"schedule.name": "cosine", "duration": "400 epochs"})
        )


def test_configuration_and_data_have_a_switch_each():
    both = as_saved(seed=1, resume_changed=True, resume_changed_data=True)
    with pytest.raises(ConfigError, match=r"0123, now 4567.*resume_changed_data=True"):
        check(as_saved(), as_saved(resume_changed=True), data="4567")
    with pytest.raises(ConfigError, match=r"config\.seed: 0 became 1.*resume_changed=True"):
        check(as_saved(), as_saved(seed=1, resume_changed_data=True), data="4567")
    assert check(as_saved(), both, data="4567") == [
        "Continuing with another configuration: config.seed: 0 became 1",
        "Continuing on other data: fingerprint 0123 became 4567",
    ]
    assert check(as_saved(), as_saved(resume_changed_data=True), data="4567") == [
        "Continuing on other data: fingerprint 0123 became 4567"
    ]


def experiment(**changes):
    config = tiny.get_config()
    config.update_from_flattened_dict(changes)
    classes = changes.pop("classes", 10)
    hparams = resolve(config, num_classes=classes, num_train_examples=1437, num_eval_examples=360, num_devices=8)
    return Experiment.without_data(config, hparams, make_mesh())


def metadata_of(experiment, classes=10):
    names = [str(label) for label in range(classes)]
    return {"config": json.loads(experiment.config.to_json_best_effort()), "class_names": names, "data": "0123"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "classes", "array"),
    [
        ({"ema.decay": 0.0}, 10, "ema/"),
        ({"model.variant": "mini0"}, 10, "blocks_"),
        ({"optimizer.name": "lars", "schedule.final_lr": 0.0}, 10, "opt_state/"),
        ({"finetune.frozen_stages": 1}, 10, "opt_state/"),
        ({}, 7, "head/classifier/bias was float32[7] and is float32[10]"),
    ],
)
@pytest.mark.parametrize("switches", [{}, {"resume_changed": True, "resume_changed_data": True}])
def test_a_state_of_another_structure_is_named_and_no_switch_helps(change, classes, array, switches):
    saved = metadata_of(experiment(), classes)
    start = experiment(**change, **switches)
    with pytest.raises(ConfigError, match="holds a run whose state has another structure") as error:
        check_continues(
            saved,
            {**metadata_of(start), "data": "4567" if classes != 10 else "0123"},
            "runs/b0",
            saved_state=lambda: start.abstract_state_of(saved),
            current_state=start.abstract_state(),
            log=lambda line: None,
        )
    assert "--config.resume_changed" not in str(error.value)
    assert array in str(error.value)


def test_a_state_of_the_same_structure_is_no_obstacle():
    saved = metadata_of(experiment())
    start = experiment(seed=3, resume_changed=True)
    assert start.abstract_state_of(saved) == start.abstract_state()
