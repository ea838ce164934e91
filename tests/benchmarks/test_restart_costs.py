"""The measurement of checkpoints and restarts: what it saves, what it starts, and what it leaves."""

import jax
import pytest

from pipeline.benchmarks import restart as restart_benchmark
from pipeline.configuration.hyperparameters import resolve
from pipeline.errors import MachineError
from pipeline.runtime.mesh import make_mesh
from pipeline.training.experiment import Experiment
from tests.configs import tiny
from tests.runs import TINIEST, xla_flags


def test_a_checkpoint_of_the_whole_state_is_measured_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(restart_benchmark, "_ROUNDS", 1)
    config = tiny.get_config()
    hparams = resolve(config, num_classes=10, num_train_examples=100, num_eval_examples=100, num_devices=8)
    experiment = Experiment.without_data(config, hparams, make_mesh())
    costs = restart_benchmark.measure_checkpoint(experiment, str(tmp_path))
    state = experiment.create_state()
    assert costs.arrays == len(jax.tree.leaves(state))
    assert costs.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert 0 < costs.standstill < costs.saved
    assert costs.restored > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_restart_is_measured_with_both_caches_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", xla_flags(devices=2))
    folder, data_dir = tmp_path / "runs", tmp_path / "data"
    folder.mkdir()
    arguments = [f"--config={TINIEST}", f"--config.data.data_dir={data_dir}", "--config.log.tensorboard=False"]
    arguments += [
        "--config.duration=2 steps",
        "--config.schedule.warmup=0 steps",
    ]  # over before the first of the three starts could be stopped
    costs = restart_benchmark.measure_restart(arguments, str(folder))
    assert list(costs) == ["cold", "warm"]
    assert all(0 < cost.compiling < cost.first_step for cost in costs.values())
    assert list(folder.iterdir()) == []


def test_a_run_that_ends_by_itself_is_an_error_with_its_words(tmp_path):
    with pytest.raises(MachineError, match=r"exit code 78(?s:.*)no/such.py"):
        restart_benchmark.measure_restart(["--config=no/such.py"], str(tmp_path))
