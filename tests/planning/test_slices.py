"""Names of slices against the published tables, libtpu's topologies and the launcher's own table."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest
from pod.slices.accelerators import find_accelerator

from pipeline.errors import ConfigError
from pipeline.planning.slices import GENERATIONS, chip_hour_dollars, parse_slice

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -r requirements-plan.txt"
)
ROOT = pathlib.Path(__file__).resolve().parents[2]

# The generations' pages of the Cloud TPU documentation: chips, machines, devices as JAX sees them, chips along each axis.
PUBLISHED = {
    "v2-8": (4, 1, 8, (2, 2)),
    "v2-512": (256, 64, 512, (16, 16)),
    "v3-32": (16, 4, 32, (4, 4)),
    "v3-256": (128, 32, 256, (8, 16)),
    "v3-2048": (1024, 256, 2048, (32, 32)),
    "v4-8": (4, 1, 4, (2, 2, 1)),
    "v4-32": (16, 4, 16, (2, 2, 4)),
    "v4-128": (64, 16, 64, (4, 4, 4)),
    "v5p-128": (64, 16, 64, (4, 4, 4)),
    "v5p-256": (128, 32, 128, (4, 4, 8)),
    "v5litepod-1": (1, 1, 1, (1, 1)),
    "v5e-8": (8, 1, 8, (2, 4)),
    "v5litepod-256": (256, 64, 256, (16, 16)),
    "v6e-8": (8, 1, 8, (2, 4)),
    "v6e-64": (64, 16, 64, (8, 8)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_slices_are_those_published(name):
    found = parse_slice(name)
    assert (found.chips, found.hosts, found.devices, found.shape) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_launcher_knows_the_same_slices(name):
    """It has its own table, because it runs where there is no JAX."""
    launchers = find_accelerator(name.replace("v5e-", "v5litepod-"))
    ours = parse_slice(name)
    assert (launchers.chips, launchers.machines, launchers.devices) == (ours.chips, ours.hosts, ours.devices)
    assert launchers.chip_hour_dollars == chip_hour_dollars(ours.generation)


@needs_libtpu
def test_the_compiler_knows_every_slice():
    """In a process of its own: libtpu stays loaded until the end of the one that asked it."""
    code = (
        "import sys; from pipeline.planning import topology; topology.prepare()\n"
        "from pipeline.planning.slices import parse_slice\n"
        "for name in sys.argv[1:]: print(name, topology.mesh_of(parse_slice(name)).size)"
    )
    command = [sys.executable, "-c", code, *PUBLISHED]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert dict(line.split() for line in lines) == {
        name: str(devices) for name, (_, _, devices, _) in PUBLISHED.items()
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("v9-8", "unknown generation 'v9'"), ("v3", "v3-64"), ("v3-7", "two a chip"), ("v5e-3", "chips, a power of two")],
)
def test_what_is_no_slice_is_refused(name, said):
    with pytest.raises(ConfigError, match=f"the slice {name}: ") as error:
        parse_slice(name)
    assert said in str(error.value)


def test_peak_rates_follow_from_clock_and_matrix_units():
    """Two operations for each of the 128 x 128 cells (256 x 256 from v6e on), per unit and cycle."""
    units = {"v2": 1, "v3": 2, "v4": 8, "v5e": 4, "v5p": 8, "v6e": 4}  # of a device
    for name, generation in GENERATIONS.items():
        side = 256 if name == "v6e" else 128
        assert units[name] * side**2 * 2 * generation.clock_hz == pytest.approx(generation.peak_flops, rel=0.02)


LARGE_PRODUCT = """
import sys
from pipeline.planning import hlo, topology
topology.prepare()
import jax, jax.numpy as jnp
from pipeline.planning.slices import parse_slice
for name in sys.argv[1:]:
    everywhere = jax.sharding.NamedSharding(topology.mesh_of(parse_slice(name)), jax.P())
    matrix = jax.ShapeDtypeStruct((8192, 8192), jnp.bfloat16, sharding=everywhere)
    print(name, hlo.summarize(jax.jit(jnp.matmul).lower(matrix, matrix).compile().as_text()).cycles)
"""


@needs_libtpu
def test_the_compiler_takes_a_large_product_to_run_near_the_peak_rate():
    """Its cycles at our clock, against the published rate. It leaves v6e at 70 %, so that clock is the least certain."""
    names = ["v2-8", "v3-8", "v4-8", "v5e-8", "v5p-8"]
    command = [sys.executable, "-c", LARGE_PRODUCT, *names]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(names)
    for line in lines:
        name, cycles = line.split()
        generation = parse_slice(name).generation
        rate = 2 * 8192**3 / (int(cycles) / generation.clock_hz)
        assert 0.85 < rate / generation.peak_flops <= 1, name


def test_every_generation_has_a_price():
    assert all(chip_hour_dollars(generation) > 0 for generation in GENERATIONS.values())


@pytest.mark.parametrize(("text", "said"), [("v3 2.00\n", "no price for v4"), ("v4 cheap\n", "expected lines")])
def test_a_price_table_that_lacks_the_price_is_refused(tmp_path, text, said):
    table = tmp_path / "prices.txt"
    table.write_text("# dollars\n" + text)
    with pytest.raises(ConfigError, match=said):
        chip_hour_dollars(GENERATIONS["v4"], table)
