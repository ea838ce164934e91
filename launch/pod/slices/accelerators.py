"""The TPU types: chips, machines, JAX devices, runtime image and price of each.

A type of generation v2, v3, v4 or v5p counts TensorCores (two a chip); one of v5e or v6e counts chips. `checks.py` asks the
service what a zone has. Sources: the generations' pages of the Cloud TPU documentation; prices are those of
launch/prices.txt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pod.errors import Refused

_RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5p": "v2-alpha-tpuv5",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v6e": "v2-alpha-tpuv6e",
}
_CHIPS_PER_MACHINE = 4
_COUNTS_CHIPS = ("v5litepod", "v6e")
_ON_GKE_ONLY = ("tpu7x", "v7x", "ironwood")
PRICES = Path(__file__).resolve().parents[2] / "prices.txt"


@dataclass(frozen=True)
class Accelerator:
    """One TPU type.

    Attributes:
      type: its name, such as "v5p-64".
      generation: "v2", "v3", "v4", "v5p", "v5litepod" or "v6e".
      chips: number of chips of a slice.
      machines: number of machines ("workers") of a slice.
      devices: number of JAX devices on all of them together.
      runtime_version: the image that Cloud TPU recommends.
      chip_hour_dollars: list price on demand of a chip for an hour.
    """

    type: str
    generation: str
    chips: int
    machines: int
    devices: int
    runtime_version: str
    chip_hour_dollars: float

    def dollars(self, hours: float) -> float:
        """Returns the list price of the whole slice for this many hours."""
        return hours * self.chips * self.chip_hour_dollars


def find_accelerator(name: str, prices: Path = PRICES) -> Accelerator:
    """Returns the description of a type.

    Raises:
      Refused: there is no such type, or it has no price.
    """
    generation, _, number = name.rpartition("-")
    if not re.fullmatch(r"[1-9][0-9]{0,6}", number) or not generation:
        raise Refused(f"--type={name}: expected a TPU type such as v3-32 or v5litepod-16")
    if generation == "v5e":
        raise Refused(f"--type={name}: Cloud TPU calls this type v5litepod-{number}")
    if generation in _ON_GKE_ONLY:
        raise Refused(f"--type={name}: TPU7x is served through GKE only; see launch/gke and docs/pods.md")
    if generation not in _RUNTIMES:
        known = "v2, v3, v4, v5litepod, v5p and v6e"
        raise Refused(f"--type={name}: unknown generation; known are {known} (TPU7x: launch/gke)")
    size = int(number)
    per_chip = 1 if generation in _COUNTS_CHIPS else 2
    if size % per_chip:
        raise Refused(f"--type={name}: a chip of {generation} has two cores, so the number must be even")
    chips = size // per_chip
    if per_chip == 1 and chips <= 8:  # the single-machine types hold 1, 4 or 8 chips
        machines = 1
    elif chips % _CHIPS_PER_MACHINE:
        raise Refused(f"--type={name}: slices of {generation} come in multiples of {_CHIPS_PER_MACHINE} chips")
    else:
        machines = chips // _CHIPS_PER_MACHINE
    return Accelerator(
        type=name,
        generation=generation,
        chips=chips,
        machines=machines,
        devices=size if generation in ("v2", "v3") else chips,  # there each core is a JAX device
        runtime_version=_RUNTIMES[generation],
        chip_hour_dollars=_price(generation.replace("v5litepod", "v5e"), prices),
    )


def _price(generation: str, prices: Path) -> float:
    for line in prices.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2 and words[0] == generation:
            try:
                return float(words[1])
            except ValueError:
                break
    raise Refused(f"{prices} has no price for {generation}")
