"""Thousands of damaged and malicious weight files: each is weights or one error, in 2 seconds and 1 GB."""

import subprocess
import sys

import pytest

from pipeline.weights import directory, official, timm
from pipeline.weights.keras_network import build_keras
from tests.weights import torch_samples
from tests.weights.mutations import bases
from tests.weights.samples import write_keras_2

CASES = {  # 2,000 in all
    "ours": 300,
    "metadata": 300,
    "timm": 100,
    "network.pth": 350,
    "legacy.pth": 300,
    "network.keras": 150,
    "network.weights.h5": 250,
    "keras2.h5": 150,
    "official": 100,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory, weights, b0):
    """A good file of each kind: of small networks, and of B0 where the authors or timm have no smaller one."""
    folder = tmp_path_factory.mktemp("good")
    for name in ("ours", "metadata", "timm", "official"):
        (folder / name).mkdir()
    directory.write(weights, folder / "ours")
    directory.write(weights, folder / "metadata")
    timm.write(b0, folder / "timm")
    official.write(b0, folder / "official")
    torch_samples.write(folder / "network.pth", weights.in_convention("timm"))
    torch_samples.write(folder / "legacy.pth", weights.in_convention("timm"), torch_samples.as_legacy)
    build_keras(weights).save(folder / "network.keras")
    build_keras(weights).save_weights(folder / "network.weights.h5")
    write_keras_2(folder / "keras2.h5", weights)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_mutations(good, name):
    result = fuzz(good, name, 0, CASES[name])
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-2000:])
    wrong = [line for line in result.stdout.splitlines() if not line.endswith(" ok")]
    assert wrong == []
    assert len(result.stdout.splitlines()) == CASES[name]


def fuzz(folder, name, first, last):
    return subprocess.run(
        [sys.executable, "-m", "tests.weights.fuzzer", str(folder), name, str(first), str(last)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_kinds_are_tried(good):
    assert CASES.keys() == bases(good).keys()
    assert sum(CASES.values()) == 2000
