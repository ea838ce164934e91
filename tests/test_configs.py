"""Every configuration builds model and optimizer and has the recipe's structure; the recipe has no key that nobody reads."""

import importlib
import pathlib
import random
import re

import jax
import jax.numpy as jnp
import pytest

from configs import recipe
from pipeline import command
from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import ConfigError
from pipeline.model.network import build_model
from pipeline.model.scaling import architecture
from pipeline.planning.slices import parse_slice
from pipeline.runtime.lowering import LANES
from pipeline.scaling.study import Study
from pipeline.search import study as search_study
from pipeline.training.update.optimizer import make_optimizer, make_schedule
from pipeline.training.update.state import abstract_state

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__", "recipe", "v2_recipe"}
STUDIES = sorted(name for name in FILES if name.startswith("scale"))
SEARCHES = sorted(name for name in FILES if name.startswith("search"))
CONFIGS = sorted(FILES - {*STUDIES, *SEARCHES})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_builds_its_model_and_optimizer(name):
    config = command.checked(importlib.import_module(f"configs.{name}").get_config())
    devices = parse_slice(config.launch.accelerator_type).devices
    hparams = resolve(
        config, num_classes=10, num_train_examples=1_281_167, num_eval_examples=50_000, num_devices=devices
    )
    model = build_model(config.model, hparams.num_classes)
    tx = make_optimizer(config, make_schedule(config, hparams))
    state = abstract_state(model, tx, image_size=hparams.image_size, with_ema=config.ema.decay > 0)
    assert state.params["head"]["classifier"]["kernel"].shape == (model.architecture.head_filters, 10)
    assert jax.tree.map(jnp.shape, state.ema["params"]) == jax.tree.map(jnp.shape, state.params)


@pytest.mark.parametrize("variant", [f"b{number}" for number in range(8)])
def test_a_slice_s_devices_have_their_lanes_full_of_images(variant):
    config = importlib.import_module(f"configs.{variant}").get_config()
    assert config.batch_size / parse_slice(config.launch.accelerator_type).devices == LANES


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_can_be_read_with_the_configuration_of_its_trials(name):
    study = Study.from_config(importlib.import_module(f"configs.{name}").get_config(), "macs")
    build_model(study.train_config.model, 10)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_can_be_read_with_the_configuration_of_its_trials(name):
    study = search_study.Study.from_config(importlib.import_module(f"configs.{name}").get_config(), "macs")
    assert study.space.size > 1000
    network = architecture(str(study.space.variant(study.space.draw(random.Random(0)))))
    assert len(network.blocks) >= len(study.space.options)


def test_every_key_of_the_recipe_is_read():
    code = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    # Not what is below these folders: `tpu_pod.sh` keeps a small Python in one of them.
    for folder in ("launch", "launch/lib"):
        code += "\n".join(path.read_text() for path in (ROOT / folder).glob("*.*") if path.is_file())
    unread = [
        key for key in command._leaf_types(recipe.get_config()) if not re.search(rf"\b{key.split('.')[-1]}\b", code)
    ]
    assert unread == []


def test_a_configuration_of_another_structure_is_refused_with_its_differences():
    config = recipe.get_config()
    del config.model
    config.extra = 1
    del config.seed
    config.seed = "zero"
    with pytest.raises(ConfigError) as error:
        command.checked(config)
    assert "config.model.variant is missing" in str(error.value)
    assert "config.extra is unknown" in str(error.value)
    assert "config.seed is of type str, not int" in str(error.value)
