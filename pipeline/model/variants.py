"""Reads `config.model.variant`: the name of a network or its table of stages, and how to scale that network.

"b3" is a row of `python -m pipeline.model`. "mobilenet_v2:phi=2,alpha=1.2,beta=1.1,gamma=1.15" scales a row by the compound
rule; the published coefficients are the defaults. "mini0:depth=1.4,width=1.2,resolution=28" gives the multipliers themselves;
their default is 1. Multipliers are relative to the row, so B7 is "b0:width=2,depth=3.1,resolution=600". `scaling.py` rounds
widths and repeats.

"mini0/ir_r1_k3_s2_e1_c16/er_r2_k5_s1_e4_c24" has the stem, the head and the family of a row, and stages of its own
(`notation.py`). "winner.json" and "winner.json:depth=1.4" name a file with such a table (`table_file.py`); multipliers are
relative to it.
"""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

from pipeline.errors import ConfigError
from pipeline.model import notation, table_file
from pipeline.model.families import VARIANTS
from pipeline.model.specs import Variant

SMALLEST, LARGEST = 0.01, 100.0  # multipliers; the largest published one is below 6
SMALLEST_RESOLUTION, LARGEST_RESOLUTION = 8, 4096
_DIGITS = 9  # of multipliers; so the square of the root of 2 is 2 and rounds no repeat up
_LONGEST = 1000  # characters
_COMPOUND, _DIRECT = ("phi", "alpha", "beta", "gamma"), ("depth", "width", "resolution")
_FILE = re.compile(rf"(.+{re.escape(table_file.SUFFIX)})(?::(.*))?")
_FORMS = "NAME:phi=2,alpha=1.2,beta=1.1,gamma=1.15 or NAME:depth=1.4,width=1.2,resolution=300"


class Coefficients(NamedTuple):
    """The base of each dimension in compound scaling. The defaults are those that the paper found on B0.

    Source: Tan and Le, arXiv 1905.11946, section 3.3.
    """

    alpha: float = 1.2  # depth
    beta: float = 1.1  # width
    gamma: float = 1.15  # resolution

    @property
    def cost_ratio(self) -> float:
        """The factor by which one unit of phi multiplies the multiply-adds, before rounding; about 2 in the paper."""
        return self.alpha * self.beta**2 * self.gamma**2

    def multipliers(self, phi: float) -> tuple[float, float, float]:
        """Returns the multipliers of depth, width and resolution: alpha**phi, beta**phi, gamma**phi [equation 3].

        Raises:
          ConfigError: a coefficient is not a positive number, or a multiplier is out of range.
        """
        results = []
        for name, value in self._asdict().items():
            if not (math.isfinite(value) and value > 0 and math.isfinite(phi)):
                raise ConfigError(f"{name}={value:g}, phi={phi:g}: compound scaling needs positive coefficients")
            if not math.log(SMALLEST) <= phi * math.log(value) <= math.log(LARGEST):
                raise ConfigError(
                    f"{name}={value:g} to the power of phi={phi:g} is not a multiplier from {SMALLEST:g} to {LARGEST:g}"
                )
            results.append(round(value**phi, _DIGITS))
        return tuple(results)


@dataclasses.dataclass(frozen=True)
class ScaledVariant:
    """A row of the table and its multipliers.

    Attributes:
      name: The name of the row, or of the row and its own stages.
      depth: Multiplies the row's repeats.
      width: Multiplies the row's channels.
      resolution: Side of the input in pixels; None takes the row's.
    """

    name: str
    depth: float = 1.0
    width: float = 1.0
    resolution: int | None = None

    @classmethod
    def parse(cls, text: str) -> "ScaledVariant":
        """Reads a variant.

        Raises:
          ConfigError: there is no such row, or the text after the colon is malformed or out of range.
        """
        if len(text) <= _LONGEST and (file := _FILE.fullmatch(text)):
            return cls._from_file(*file.groups())
        name, colon, rest = text[: _LONGEST + 1].partition(":")
        if len(text) > _LONGEST or name.partition(notation.SEPARATOR)[0] not in VARIANTS:
            raise ConfigError(f"model variant {text!r:.100} is unknown; the variants are {', '.join(VARIANTS)}")
        try:
            return cls(name, *_direct(_settings(rest), row(name).resolution)) if colon else cls(name).checked()
        except ConfigError as error:
            raise ConfigError(f"model variant {text!r:.300}: {error}") from error

    @classmethod
    def _from_file(cls, path: str, rest: str | None) -> "ScaledVariant":
        found = cls.parse(table_file.read(path))
        if rest is None:
            return found
        try:
            return found.scaled(*_direct(_settings(rest), found.resolution or row(found.name).resolution))
        except ConfigError as error:
            raise ConfigError(f"model variant {path}:{rest:.100}: {error}") from error

    def checked(self) -> "ScaledVariant":
        """Returns this variant after reading its stages, if it has any of its own."""
        row(self.name)
        return self

    def scaled(self, depth: float = 1.0, width: float = 1.0, resolution: int | None = None) -> "ScaledVariant":
        """Returns this variant with its multipliers multiplied, and with the resolution if one is given."""
        return ScaledVariant(
            self.name,
            round(self.depth * depth, _DIGITS),
            round(self.width * width, _DIGITS),
            self.resolution if resolution is None else resolution,
        )

    def __str__(self) -> str:
        given = [f"{key}={value:.10g}" for key in _DIRECT if (value := getattr(self, key)) not in (1.0, None)]
        return ":".join([self.name, ",".join(given)]) if given else self.name


@functools.cache
def row(name: str) -> Variant:
    """Returns the unscaled network of a name, which is a row of the table, alone or with stages of its own.

    Raises:
      ConfigError: the stages are malformed.
      KeyError: there is no such row.
    """
    base, slash, stages = name.partition(notation.SEPARATOR)
    found = VARIANTS[base]
    if not slash:
        return found
    return dataclasses.replace(found, baseline=dataclasses.replace(found.baseline, stages=notation.read(stages)))


def spelled_out(text: str) -> str:
    """Returns a variant with the table of its file in place of the file's name; any other is returned as it is.

    Raises:
      ConfigError: see `ScaledVariant.parse`.
    """
    return str(ScaledVariant.parse(text)) if _FILE.fullmatch(text) else text


def _settings(text: str) -> dict[str, float]:
    """Reads "key=number,key=number"."""
    found = {}
    for word in text.split(","):
        key, _, value = word.partition("=")
        if key not in (*_COMPOUND, *_DIRECT):
            raise ConfigError(f"{key!r} is not one of {', '.join((*_COMPOUND, *_DIRECT))}; write {_FORMS}")
        if key in found:
            raise ConfigError(f"{key} is given twice")
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", value, re.ASCII | re.IGNORECASE):
            raise ConfigError(f"{key}={value!r} is not a number")
        found[key] = float(value)
    return found


def _direct(settings: dict[str, float], resolution: int) -> tuple[float, float, int | None]:
    """Returns depth, width and pixels, as given or computed from phi and the coefficients."""
    compound, direct = ([key for key in keys if key in settings] for keys in (_COMPOUND, _DIRECT))
    if compound and "phi" not in settings:
        raise ConfigError(f"{compound[0]} is given without phi; write {_FORMS}")
    if compound:
        if set(direct) - {"resolution"}:
            raise ConfigError(f"{direct[0]} follows from phi; give one or the other")
        coefficients = Coefficients(**{key: settings[key] for key in compound if key != "phi"})
        depth, width, pixels = coefficients.multipliers(settings["phi"])
        settings = {"depth": depth, "width": width, "resolution": round(resolution * pixels), **settings}
    for key in ("depth", "width"):
        if not SMALLEST <= settings.get(key, 1.0) <= LARGEST:
            raise ConfigError(f"{key}={settings[key]:g} is not a multiplier from {SMALLEST:g} to {LARGEST:g}")
    pixels = settings.get("resolution")
    if pixels is not None and not (SMALLEST_RESOLUTION <= pixels <= LARGEST_RESOLUTION and pixels == int(pixels)):
        raise ConfigError(
            f"resolution={pixels:g} is not a whole number of pixels from {SMALLEST_RESOLUTION} to {LARGEST_RESOLUTION:,}"
        )
    return settings.get("depth", 1.0), settings.get("width", 1.0), None if pixels is None else int(pixels)
