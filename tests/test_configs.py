"""Every configuration builds its train step and has the structure of the recipe, which has no key that nobody reads."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from configs import recipe
from pipeline import command
from pipeline.errors import ConfigError
from pipeline.model.efficientnet import build_model
from pipeline.training.hyperparameters import resolve
from pipeline.training.optimizer import make_optimizer, make_schedule
from pipeline.training.state import abstract_state
from pipeline.training.step import make_train_step

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "recipe"))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_builds_its_train_step(name):
    config = command.checked(importlib.import_module(f"configs.{name}").get_config())
    slice_cores = int(config.launch.accelerator_type.rpartition("-")[2])
    numbers = resolve(
        config, num_classes=10, num_train_examples=1_281_167, num_eval_examples=50_000, num_devices=slice_cores
    )
    model = build_model(config.model, numbers.num_classes)
    tx = make_optimizer(config, make_schedule(config, numbers))
    state = abstract_state(model, tx, image_size=numbers.image_size, with_ema=config.ema.decay > 0)
    size = numbers.image_size
    batch = {
        "image": jax.ShapeDtypeStruct((numbers.batch_size, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((numbers.batch_size,), jnp.int32),
        "weight": jax.ShapeDtypeStruct((numbers.batch_size,), jnp.float32),
    }
    new_state, loss = jax.eval_shape(make_train_step(config, model, tx), state, batch)
    assert loss.dtype == jnp.float32
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, new_state)
    assert jax.tree.all(same)


def test_every_key_of_the_recipe_is_read():
    code = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    code += "\n".join(path.read_text() for path in (ROOT / "launch").rglob("*.*") if path.is_file())
    unread = [
        key for key in command._leaf_types(recipe.get_config()) if not re.search(rf"\b{key.split('.')[-1]}\b", code)
    ]
    assert unread == []


def test_a_configuration_of_another_structure_is_refused_with_its_differences():
    config = recipe.get_config()
    del config.model
    config.extra = 1
    config.seed = "zero"
    with pytest.raises(ConfigError) as error:
        command.checked(config)
    assert "config.model.variant is missing" in str(error.value)
    assert "config.extra is unknown" in str(error.value)
    assert "config.seed is of type str, not int" in str(error.value)
