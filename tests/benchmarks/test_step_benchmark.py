"""The train steps that are compared, each for real; in processes of their own, because Keras keeps its first backend."""

import math
import os
import re
import subprocess
import sys

import pytest

from tests.runs import COMPILE_FAST, ROOT

ENVIRONMENT = os.environ | {"XLA_FLAGS": COMPILE_FAST, "TF_CPP_MIN_LOG_LEVEL": "2"}  # one device
B0_PARAMETERS = 5_288_548  # with 1,000 classes, as published
SMALL = (
    *("--config=configs/b0.py", "--config.image_size=32", "--config.model.dtype=float32"),
    *("--config.batch_size=8", "--config.model.bn_batch=8", "--config.virtual_devices=1"),
)
KERAS_STEP = """
import jax, numpy as np
from configs import b0
from pipeline.benchmarks.keras_step import keras_step
from pipeline.runtime.mesh import make_mesh
from pipeline.training.experiment import Experiment
from pipeline.configuration.hyperparameters import resolve

config = b0.get_config()
config.image_size, config.batch_size, config.model.bn_batch, config.model.dtype = 32, 8, 8, "float32"
hparams = resolve(config, num_classes=1000, num_train_examples=80, num_eval_examples=8, num_devices=1)
step, state = keras_step(Experiment.without_data(config, hparams, make_mesh()))
print(sum(array.size for array in state[0]))
images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
after, loss = jax.jit(step)(state, images, np.arange(8, dtype=np.int32))
print(float(loss), sum(not np.array_equal(*pair) for pair in zip(state[0], after[0])), len(state[0]))
"""


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.slow
def test_keras_trains_the_whole_of_the_published_network():
    result = python("-c", KERAS_STEP)
    assert result.returncode == 0, result.stderr
    parameters, outcome = result.stdout.splitlines()[-2:]
    assert int(parameters) == B0_PARAMETERS
    loss, moved, arrays = outcome.split()
    assert float(loss) == pytest.approx(math.log(1000), abs=0.5)  # an untrained network knows nothing
    assert moved == arrays


@pytest.mark.slow
def test_our_step_is_timed():
    result = python(
        "-m", "pipeline.benchmark", "step", *SMALL, "--config.model.variant=mini0", "--nokeras", "--rounds=1"
    )
    assert result.returncode == 0, result.stderr
    ((milliseconds, rate),) = re.findall(r"^ours +([\d.]+) ms a step, +([\d.]+) images/s", result.stdout, re.MULTILINE)
    assert float(rate) == pytest.approx(8 / float(milliseconds) * 1e3, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("step", *SMALL, "--aot=v9-1"), "unknown generation 'v9'"),
        (("step", *SMALL, "--config.model.variant=lite0"), "keras.applications has B0 to B7"),
        (("step", *SMALL, "--timm", "--aot=v5e-8"), "--timm cannot be compiled for --aot"),
        (("step", *SMALL, "--timm", "--config.model.dtype=bfloat16"), "--config.model.dtype=float32"),
        (("checkpoint", *SMALL, "--folder=/no/such/folder"), "--folder=/no/such/folder: there is no such folder"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    result = python("-m", "pipeline.benchmark", *arguments)
    assert result.returncode == 78
    assert said in result.stderr.splitlines()[-1]


@pytest.mark.interop
@pytest.mark.skipif("TIMM_PYTHON" not in os.environ, reason="needs PyTorch and timm: launch/test_interop.sh")
def test_timms_step_is_timed_beside_ours():
    result = python("-m", "pipeline.benchmark", "step", *SMALL, "--nokeras", "--timm", "--rounds=1")
    assert result.returncode == 0, result.stderr
    ((milliseconds, rate),) = re.findall(r"^timm +([\d.]+) ms a step, +([\d.]+) images/s", result.stdout, re.MULTILINE)
    assert float(rate) == pytest.approx(8 / float(milliseconds) * 1e3, rel=0.02)


def test_a_missing_timm_is_said_before_anything_is_measured(monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "TIMM_PYTHON", "/nowhere/python")
    result = python("-m", "pipeline.benchmark", "step", *SMALL, "--nokeras", "--timm", "--rounds=1")
    assert result.returncode == 78
    assert "TIMM_PYTHON=/nowhere/python cannot be started" in result.stderr
    assert "ms a step" not in result.stdout
