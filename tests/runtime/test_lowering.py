"""What is chosen for the devices of real topologies, in a process of its own, which loads the TPU compiler."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import pytest
from jax.sharding import AxisType

from pipeline.runtime.lowering import compiler_options, depthwise_channels_per_group

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHOICES = """
import json, sys
from pipeline.planning import topology
from pipeline.planning.slices import parse_slice

topology.prepare()
from pipeline.runtime.lowering import compiler_options, depthwise_channels_per_group

found = {}
for name, images in json.loads(sys.argv[1]):
    mesh = topology.mesh_of(parse_slice(name))
    found[f"{name} {images}"] = [depthwise_channels_per_group(mesh, images), bool(compiler_options(mesh))]
print(json.dumps(found))
"""
EXPECTED = {
    ("v5e-8", 128): [8, True],
    ("v5p-8", 256): [8, True],
    ("v6e-8", 128): [8, True],
    ("v5e-8", 64): [1, True],  # half of the lanes
    ("v3-8", 128): [1, False],
    ("v4-8", 128): [8, False],
    ("v4-8", 32): [1, False],
}


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -r requirements-plan.txt"
)
def test_blocks_are_for_full_lanes_from_v4_on():
    command = [sys.executable, "-c", CHOICES, json.dumps(list(EXPECTED))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {f"{name} {n}": found for (name, n), found in EXPECTED.items()}


def test_nothing_is_chosen_for_a_cpu():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    assert depthwise_channels_per_group(mesh, 128) == 1
    assert compiler_options(mesh) == {}
