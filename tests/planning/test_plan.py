"""`python -m pipeline.plan` with the real TPU compiler, on a network of two blocks."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from pipeline.errors import MachineError
from pipeline.planning import topology

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ("--config", "tests/configs/tiny.py", "--sizes=10,1437,360")
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -r requirements-plan.txt"
)


def plan(cache: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own, as a user does; libtpu is loaded once in a process."""
    command = [sys.executable, "-m", "pipeline.plan", *arguments]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "XLA_FLAGS": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@needs_libtpu
@pytest.mark.slow
def test_a_plan_of_the_real_step(tmp_path):
    arguments = (*TINY, "--topology=v5e-8", "--topology=v5e-16", "--json")
    first = plan(tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    small, large = json.loads(first.stdout)
    assert (small["devices"], large["devices"]) == (8, 16)
    for found in (small, large):
        train, estimate = found["train"], found["estimate"]
        assert found["fits"]
        assert 0 < train["memory"] < train["memory_limit"] == 16 * 2**30
        assert sum(train["cycles_by_kind"].values()) == train["cycles"] > 0
        assert train["cycles_by_kind"]["depthwise"] > 0
        # The gradients and each layer's moments are summed over devices; evaluation sums only its counts.
        assert train["collectives"]["all-reduce"] > found["evaluation"]["collectives"].get("all-reduce", 0) > 0
        # float32: 1,896 gradients, and for 120 channels of BatchNorm two sums on the way forward and two on the way back.
        assert train["collective_bytes"] >= 4 * (1896 + 120 * 4)
        assert estimate["images_per_second"] == pytest.approx(32 / estimate["step"])
    # 12 steps, 16 chips at the price of launch/prices.txt
    assert large["estimate"]["chip_hours"] == pytest.approx(16 * large["estimate"]["hours"])

    again = plan(tmp_path, *arguments)
    assert json.loads(again.stdout) == json.loads(first.stdout)  # compile times too: nothing was compiled again

    in_words = plan(tmp_path, *arguments[:-1]).stdout.splitlines()
    assert [line.split()[1] for line in in_words[-2:]] == ["v5e-8", "v5e-16"]  # side by side at the end


@needs_libtpu
@pytest.mark.slow
def test_a_progressive_plan_is_the_sum_of_its_stages(tmp_path):
    stages = ("--config.progressive.stages=2", "--config.image_size=32", "--config.evaluation.image_size=8")
    result = plan(tmp_path, *TINY, "--topology=v5e-8", "--json", *stages)
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(result.stdout)
    small, large = found["stages"]
    assert (small["image_size"], large["image_size"]) == (26, 32)
    assert (small["end_step"], large["end_step"]) == (6, 12)
    assert 0 < small["cycles"] < large["cycles"]
    assert found["train"]["memory"] == max(small["memory"], large["memory"])
    assert found["estimate"]["images_per_second"] == pytest.approx(32 / found["estimate"]["step"])
    assert [len(list(tmp_path.rglob(f"tiny-train-{number}-v5e-8-*.json"))) for number in (1, 2)] == [1, 1]
    assert len(list(tmp_path.rglob("tiny-evaluation-*.json"))) == 1


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("config", ["b0", "b7"])
def test_a_configuration_as_it_comes_is_planned_without_compiling(tmp_path, config):
    """Where this fails the steps have changed: python -m pipeline.precompile compiles them anew."""
    source = (
        "from pipeline import command, plan\n"
        "plan.topology.prepare()\n"
        "from pipeline.planning import program\n"
        "def compiled(*_): raise SystemExit('this step is not in pipeline/planning/precompiled.json')\n"
        "program._compile = compiled\n"
        "command.run(plan.main)\n"
    )
    arguments = [sys.executable, "-c", source, "--config", f"configs/{config}.py"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "XLA_FLAGS": ""}
    result = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("fits") == 2
    assert not any(tmp_path.iterdir())


@needs_libtpu
@pytest.mark.slow
def test_what_does_not_fit_says_by_how_much(tmp_path):
    result = plan(tmp_path, *TINY, "--topology=v5e-8", "--config.batch_size=16384", "--config.image_size=512")
    assert result.returncode == 70
    assert "DOES NOT FIT" in result.stdout
    assert "too much" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((*TINY, "--topology=v9-8"), 78, "unknown generation"),
        (("--config", "tests/configs/tiny.py", "--sizes=10,a,5", "--topology=v5e-8"), 78, "three numbers"),
        (("--config", "configs/b0.py", "--config.data.name=elsewhere", "--topology=v5e-8"), 78, "--sizes"),
        ((*TINY, "--topology=v5e-8", "--config.batch_size=12"), 78, "multiple of the 8 devices"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, status, said):
    result = plan(tmp_path, *arguments)
    assert result.returncode == status, result.stderr
    assert said in result.stderr.splitlines()[-1]


def test_without_libtpu_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install -r requirements-plan\.txt"):
        topology.prepare()
