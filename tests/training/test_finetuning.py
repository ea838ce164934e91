import jax
import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.model.network import build_model
from pipeline.training import finetuning
from pipeline.training.update.optimizer import make_optimizer
from pipeline.training.update.state import create_state
from pipeline.training.update.step import make_train_step
from pipeline.weights import directory
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata


@pytest.fixture
def stored(config, tmp_path):
    """Weights of the test network for 10 classes, in a folder; their arrays."""
    model = build_model(config.model, 10)
    state = create_state(model, make_optimizer(config, lambda step: 0.1), image_size=8, seed=5, with_ema=False)
    metadata = Metadata(config.model.variant, 10, 8, source="a test")
    weights = Weights.from_variables(metadata, jax.device_get(state.raw_variables()))
    directory.write(weights, tmp_path)
    config.init_from = str(tmp_path)
    return weights.arrays


def fresh_state(config, num_classes, with_ema=True):
    model = finetuning.freeze_statistics(build_model(config.model, num_classes), config)
    tx = finetuning.limit_updates(make_optimizer(config, lambda step: 0.01), config)
    return model, tx, create_state(model, tx, image_size=8, seed=0, with_ema=with_ema)


def started(config, num_classes):
    model, tx, state = fresh_state(config, num_classes)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return model, tx, finetuning.start_from(state, config, num_classes, sharding)


def test_everything_is_taken_over_and_the_averages_start_there(config, stored):
    _, _, state = started(config, 10)
    for tree in (state.params, state.ema["params"]):
        assert np.array_equal(tree["head"]["classifier"]["kernel"], stored["params/head/classifier/kernel"])
        assert np.array_equal(tree["stem"]["conv"]["kernel"], stored["params/stem/conv/kernel"])
    assert np.array_equal(state.batch_stats["stem"]["bn"]["var"], stored["batch_stats/stem/bn/var"])


@pytest.mark.parametrize(("head", "num_classes"), [("auto", 3), ("new", 10)])
def test_a_new_head(config, stored, caplog, head, num_classes):
    config.finetune.head = head
    caplog.set_level("INFO", logger="absl")
    _, _, state = started(config, num_classes)
    kernel = state.params["head"]["classifier"]["kernel"]
    _, _, fresh = fresh_state(config, num_classes)
    assert np.array_equal(kernel, fresh.params["head"]["classifier"]["kernel"])
    assert np.array_equal(state.params["head"]["conv"]["kernel"], stored["params/head/conv/kernel"])
    assert f"replaced by a new one for {num_classes} classes" in caplog.text


def test_options_that_do_not_fit_the_weights(config, stored):
    config.finetune.head = "keep"
    with pytest.raises(ConfigError, match="has 10 classes and the dataset 3"):
        finetuning.start_from(None, config, 3, None)
    config.finetune.head = "auto"
    config.finetune.frozen_stages = 4
    with pytest.raises(ConfigError, match="the stem and 2 stages, 0 to 3 can be frozen"):
        finetuning.freeze_statistics(build_model(config.model, 10), config)
    config.model.variant = "mini0"
    with pytest.raises(ConfigError, match="holds tiny, not mini0"):
        finetuning.start_from(None, config, 10, None)


def step(config, model, tx, state, batch):
    new_state, _ = jax.jit(make_train_step(config, model, tx))(state, batch)
    return new_state


def moved(before, after):
    """The modules of which any number changed."""
    return {
        module
        for module in before
        if any(
            not np.array_equal(one, other)
            for one, other in zip(jax.tree.leaves(before[module]), jax.tree.leaves(after[module]))
        )
    }


def test_frozen_stages_do_not_move_nor_their_statistics(config, batch):
    config.finetune.frozen_stages = 2  # the stem and stage 0
    model, tx, state = fresh_state(config, 10)
    after = step(config, model, tx, state, batch)
    learning = {"blocks_1_0", "blocks_1_1", "head"}
    assert moved(state.params, after.params) == learning
    assert moved(state.batch_stats, after.batch_stats) == learning
    assert moved(state.ema["params"], after.ema["params"]) == learning


def test_frozen_statistics(config, batch):
    config.finetune.frozen_batch_norm = True
    model, tx, state = fresh_state(config, 10)
    after = step(config, model, tx, state, batch)
    assert moved(state.batch_stats, after.batch_stats) == set()
    assert moved(state.params, after.params) == set(state.params)


def test_parts_learn_at_their_rates(config, batch):
    """The tiny network has four parts: stem, two stages, head. A factor of 1/2 gives 1/8, 1/4, 1/2 and 1."""
    model, tx, state = fresh_state(config, 10)
    full = step(config, model, tx, state, batch)
    config.finetune.stage_lr_factor = 0.5
    model, tx, state = fresh_state(config, 10)
    scaled = step(config, model, tx, state, batch)
    for module, factor in {"stem": 1 / 8, "blocks_0_0": 1 / 4, "blocks_1_1": 1 / 2, "head": 1.0}.items():
        for start, whole, part in zip(
            *(jax.tree.leaves(tree.params[module]) for tree in (state, full, scaled)), strict=True
        ):
            np.testing.assert_allclose(part - start, factor * (whole - start), rtol=1e-3, atol=1e-6)


def test_fix_resolution_trains_the_classifier_and_the_last_batch_norm_and_nothing_else(config, batch):
    config.finetune.trained = "classifier_and_last_norm"
    model, tx, state = fresh_state(config, 10)
    after = step(config, model, tx, state, batch)
    assert moved(state.params, after.params) == {"head"}
    assert moved(state.params["head"], after.params["head"]) == {"bn", "classifier"}
    assert moved(state.batch_stats, after.batch_stats) == {"head"}
    assert moved(state.ema["params"], after.ema["params"]) == {"head"}
    assert np.array_equal(state.ema["params"]["head"]["conv"]["kernel"], after.ema["params"]["head"]["conv"]["kernel"])


def test_a_network_whose_last_batch_norm_is_inside_a_block_is_refused(config):
    config.finetune.trained, config.model.variant = "classifier_and_last_norm", "mobilenet_v1"
    with pytest.raises(ConfigError, match="the last BatchNorm of mobilenet_v1 is inside a block"):
        finetuning.freeze_statistics(build_model(config.model, 10), config)
