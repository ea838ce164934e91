"""The steps of a progressive run, begun anywhere, in one process: `tests/multiprocess` has the whole run."""

import contextlib

import jax
import numpy as np
import pytest

from pipeline.configuration.stages import stage_at
from pipeline.data.preparation.datasets import prepare_digits
from pipeline.training.experiment import Experiment
from tests.configs import tiniest

SIZES, ENDS = (8, 10, 16), (2, 4, 6)


@pytest.fixture(scope="module")
def plain_config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare_digits(str(directory))
    config = tiniest.get_config()
    config.data.data_dir, config.data.augment = str(directory), "randaugment"
    config.duration, config.schedule.warmup = "6 steps", "1 steps"
    config.evaluation.image_size, config.loss.mix_semantics = 12, "published"
    return config


@pytest.fixture(scope="module")
def experiment(plain_config):
    config = plain_config.copy_and_resolve_references()
    config.progressive.stages, config.progressive.image_sizes = 3, SIZES
    config.progressive.dropout_rates = (0.0, 0.25, 0.3)  # of the configuration: 0.1
    config.image_size, config.loss.mixup_alpha, config.loss.cutmix_alpha = 16, 0.2, 0.4
    return Experiment.from_config(config)


def states(experiment, programs, state, start_step):
    """Returns the states after each step from `start_step` on, and the sizes of the images that each was given."""
    found, sizes = {}, []
    host_batches = experiment.train_batches(start_step)
    with contextlib.closing(host_batches):
        for step, batch in zip(range(start_step, ENDS[-1]), experiment.on_devices(host_batches)):
            sizes.append(batch["image"].shape[1])
            state, _ = programs[stage_at(experiment.hparams.stages, step)](state, batch)
            found[step + 1] = jax.device_get(state)
    return found, sizes


def test_steps_from_anywhere_have_the_bits_of_those_from_the_start(experiment):
    programs = [experiment.compile_train_step(stage) for stage in experiment.hparams.stages]
    whole, sizes = states(experiment, programs, experiment.create_state(), 0)
    assert sizes == [8, 8, 10, 10, 16, 16]
    assert not np.array_equal(whole[5].params["stem"]["conv"]["kernel"], whole[6].params["stem"]["conv"]["kernel"])
    for start in (1, 2, 3, 4):  # within stages and where they begin
        again, _ = states(experiment, programs, jax.device_put(whole[start], experiment.replicated), start)
        jax.tree.map(np.testing.assert_array_equal, again[6], whole[6])


def test_a_stage_has_the_step_and_the_batches_of_a_run_of_its_own(experiment, plain_config):
    alone = plain_config.copy_and_resolve_references()  # the second of three stages, by hand
    alone.image_size, alone.model.dropout_rate, alone.data.randaugment_magnitude = 10, 0.25, 7.5
    alone.loss.mixup_alpha, alone.loss.cutmix_alpha = 0.1, 0.2
    alone = Experiment.from_config(alone)
    stage = experiment.hparams.stages[1]
    assert experiment.lower_train_step(stage).as_text() == alone.lower_train_step().as_text()
    with (
        contextlib.closing(experiment.train_batches(ENDS[0])) as staged,
        contextlib.closing(alone.train_batches(ENDS[0])) as expected,
    ):
        jax.tree.map(np.testing.assert_array_equal, next(staged), next(expected))


def test_each_stage_and_evaluation_have_their_own_shapes(experiment):
    stages = experiment.hparams.stages
    assert [stage.end_step for stage in stages] == list(ENDS)
    assert experiment.hparams.eval_image_size == 12
    with contextlib.closing(experiment.eval_passes()) as passes:
        batch = next(iter(experiment.eval_batches(passes)))
    assert batch["image"].shape[1:] == (12, 12, 3)
