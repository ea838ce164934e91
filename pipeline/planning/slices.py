"""TPU slices by name: their chips, hosts and devices, and the compiler's name of their topology.

The table of generations is here. No service is asked and libtpu is not loaded, so checking a name takes no time. Names are
those of Cloud TPU (v3-32, v5litepod-256) and the short ones (v5e-256). Types of v2, v3, v4 and v5p count TensorCores, two a
chip; those of v5e and v6e count chips.

Sources: the generations' pages of the Cloud TPU documentation (memory, peak rates, machines); Jouppi et al., "A domain-specific
supercomputer for training deep neural networks" (2020) and "TPU v4" (arXiv 2304.01433) for the clocks of v2 to v4. The clocks
of v5e, v5p and v6e follow from their peak rates and the number of matrix units.
"""

import dataclasses
import pathlib

from pipeline.errors import ConfigError

GIB = 2**30
PRICES_FILE = pathlib.Path(__file__).resolve().parents[2] / "launch" / "prices.txt"


@dataclasses.dataclass(frozen=True)
class Generation:
    """One generation of TPUs."""

    name: str
    counts_cores: bool  # whether a type's number counts TensorCores, two a chip, or chips
    devices_per_chip: int  # JAX devices: the two cores of v4 and v5p act as one ("megacore")
    dimensions: int  # of the interconnect
    hbm_gib: float  # of a device
    clock_hz: float
    peak_flops: float  # of a device, in bfloat16
    link_bytes: float  # bytes a second out of a device, over all its links
    host_cpus: int  # virtual CPUs of a machine of four chips
    chip_config: str | None = None  # the compiler's name of this use of the cores; None: its default


GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            "v2",
            counts_cores=True,
            devices_per_chip=2,
            dimensions=2,
            hbm_gib=8,
            clock_hz=0.7e9,
            peak_flops=23e12,
            link_bytes=124e9,
            host_cpus=96,
        ),
        Generation(
            "v3",
            counts_cores=True,
            devices_per_chip=2,
            dimensions=2,
            hbm_gib=16,
            clock_hz=0.94e9,
            peak_flops=61.5e12,
            link_bytes=164e9,
            host_cpus=96,
        ),
        Generation(
            "v4",
            counts_cores=True,
            devices_per_chip=1,
            dimensions=3,
            hbm_gib=32,
            clock_hz=1.05e9,
            peak_flops=275e12,
            link_bytes=300e9,
            host_cpus=240,
            chip_config="megacore",
        ),
        Generation(
            "v5e",
            counts_cores=False,
            devices_per_chip=1,
            dimensions=2,
            hbm_gib=16,
            clock_hz=1.5e9,
            peak_flops=197e12,
            link_bytes=200e9,
            host_cpus=112,
        ),
        Generation(
            "v5p",
            counts_cores=True,
            devices_per_chip=1,
            dimensions=3,
            hbm_gib=95,
            clock_hz=1.75e9,
            peak_flops=459e12,
            link_bytes=600e9,
            host_cpus=208,
        ),
        Generation(
            "v6e",
            counts_cores=False,
            devices_per_chip=1,
            dimensions=2,
            hbm_gib=32,
            clock_hz=1.75e9,
            peak_flops=918e12,
            link_bytes=448e9,
            host_cpus=180,
        ),
    )
}
ALIASES = {"v5litepod": "v5e"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A number of connected chips of one generation."""

    name: str
    generation: Generation
    chips: int

    @property
    def devices(self) -> int:
        """JAX devices."""
        return self.chips * self.generation.devices_per_chip

    @property
    def hosts(self) -> int:
        """Machines: four chips each, except that one machine holds up to eight chips of v5e and v6e."""
        if self.generation.name in ("v5e", "v6e") and self.chips <= 8:
            return 1
        return max(1, self.chips // 4)

    @property
    def shape(self) -> tuple[int, ...]:
        """Chips along each axis of the interconnect: the powers of two nearest to a square or a cube."""
        exponent = self.chips.bit_length() - 1
        if self.generation.dimensions == 2:
            return 2 ** (exponent // 2), 2 ** (exponent - exponent // 2)
        # The smallest slices are machines of 2x2x1 side by side.
        if exponent <= 4:
            return {0: (1, 1, 1), 1: (1, 2, 1), 2: (2, 2, 1), 3: (2, 2, 2), 4: (2, 2, 4)}[exponent]
        return 2 ** (exponent // 3), 2 ** ((exponent + 1) // 3), 2 ** ((exponent + 2) // 3)

    @property
    def topology_options(self) -> dict:
        """Arguments of `jax.experimental.topologies.get_topology_desc`."""
        options: dict = {"topology_name": f"{self.generation.name}:{'x'.join(map(str, self.shape))}"}
        if self.generation.chip_config:
            options["chip_config_name"] = self.generation.chip_config
        if self.hosts == 1:
            options["chips_per_host_bounds"] = (*self.shape, 1)[:3]
        return options


def parse_slice(name: str) -> Slice:
    """Returns the slice that a type such as "v3-32", "v5litepod-256" or "v5e-256" names.

    Raises:
      ConfigError: there is no such type; the message says which there are.
    """
    prefix, _, number = name.partition("-")
    generation = GENERATIONS.get(ALIASES.get(prefix, prefix))
    if generation is None:
        known = ", ".join([*GENERATIONS, *ALIASES])
        raise ConfigError(f"the slice {name}: unknown generation {prefix!r}; known are {known}")
    per_chip = 2 if generation.counts_cores else 1
    chips = int(number) // per_chip if number.isdigit() else 0
    if chips < 1 or chips & (chips - 1) or chips * per_chip != int(number):
        unit = "cores, two a chip" if generation.counts_cores else "chips"
        raise ConfigError(
            f"the slice {name}: expected {prefix}-N with N {unit}, a power of two, such as {prefix}-{32 * per_chip}"
        )
    return Slice(name, generation, chips)


def chip_hour_dollars(generation: Generation, path: pathlib.Path = PRICES_FILE) -> float:
    """Returns the price of a chip for an hour from the table that the user edits.

    Raises:
      ConfigError: the table is missing, malformed, or has no price for this generation.
    """
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        return {name: float(dollars) for name, dollars in rows}[generation.name]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected lines of a generation and dollars, such as 'v3 2.00' ({error})") from error
    except KeyError as error:
        raise ConfigError(
            f"{path}: no price for {generation.name}; add a line such as '{generation.name} 2.00'"
        ) from error
