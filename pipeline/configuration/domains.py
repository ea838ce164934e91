"""The domain of each key of a configuration: one table, checked before anything starts.

A domain tells whether it contains a value, and describes itself for the error message. Rules about two keys, the dataset or the
devices are in `hyperparameters.py`. An unset placeholder is in every domain. Types are checked earlier, by `command.checked`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

from ml_collections import ConfigDict

from pipeline.configuration.durations import parse
from pipeline.errors import ConfigError

LARGEST_SEED = 2**32 - 1  # grain's and NumPy's
LARGEST_BATCH = 2**20


class Domain(Protocol):
    """A set of values; `str` completes the sentence "expected …"."""

    def __contains__(self, value: Any) -> bool: ...

    def __str__(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Number:
    """Finite numbers from `low` to `high`; `without_low` and `without_high` exclude that end."""

    low: float
    high: float = math.inf
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (self.low < value if self.without_low else self.low <= value) and (
            value < self.high if self.without_high else value <= self.high
        )

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.without_low else f"{self.low:g} or more"
        if self.high == math.inf:
            return f"a finite number, {low}"
        if not self.without_low and not self.without_high:
            return f"a number from {self.low:g} to {self.high:g}"
        return f"a number, {low} and {'less than' if self.without_high else 'at most'} {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int | None = None

    def __contains__(self, value: Any) -> bool:
        return type(value) is int and self.low <= value and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        limit = f", {self.low:,} or more" if self.high is None else f" from {self.low:,} to {self.high:,}"
        return f"a whole number{limit}"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Some words."""

    choices: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"


@dataclasses.dataclass(frozen=True)
class Text:
    """Text that is not empty. Whether the thing it names exists is checked where that is opened."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and bool(value.strip())

    def __str__(self) -> str:
        return "a text that is not empty"


@dataclasses.dataclass(frozen=True)
class Flag:
    """True and False."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "True or False"


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A list of `count` numbers (None: any count), each in `each`. With `rising`, no number is less than the one before."""

    count: int | None
    each: "Number | Whole"
    rising: bool = False

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, tuple | list) or self.count not in (None, len(value)):
            return False
        return all(number in self.each for number in value) and (not self.rising or list(value) == sorted(value))

    def __str__(self) -> str:
        order = ", none less than the one before" if self.rising else ""
        return f"{self.count or 'any number of'} numbers, each {str(self.each).removeprefix('a ')}{order}"


@dataclasses.dataclass(frozen=True)
class Duration:
    """Durations in some units; `something` excludes those of length 0."""

    units: tuple[str, ...]
    something: bool = False

    def __contains__(self, value: Any) -> bool:
        try:
            duration = parse(value, "")
        except (ConfigError, TypeError):
            return False
        return (
            duration.unit in self.units and math.isfinite(duration.amount) and duration.amount >= self.something * 1e-9
        )

    def __str__(self) -> str:
        units = " or ".join(f"{unit}s" for unit in self.units)
        return f"a number and a unit, {units}" + (", more than 0" if self.something else "")


@dataclasses.dataclass(frozen=True)
class Durations:
    """A list of durations in the allowed units."""

    units: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, tuple | list) and all(each in Duration(self.units, something=True) for each in value)

    def __str__(self) -> str:
        units = [unit if unit == "%" else f"{unit}s" for unit in self.units]
        return f"a list, empty or of texts such as '10 {units[0]}', each more than 0, in {', '.join(units[:-1])} or {units[-1]}"


_SHARE = Number(0, 1)
_PART = Number(0, 1, without_high=True)  # a share that is less than the whole
_POSITIVE = Number(0, without_low=True)
_NOT_NEGATIVE = Number(0)
_TRAINING = ("epoch", "step")

DOMAINS: Mapping[str, Domain] = {
    "seed": Whole(0, LARGEST_SEED),
    "batch_size": Whole(1, LARGEST_BATCH),
    "duration": Duration(_TRAINING),
    "image_size": Whole(8, 4096),
    "platform": OneOf(("tpu", "gpu", "cpu")),
    "virtual_devices": Whole(1, 4096),
    "data.name": Text(),
    "data.data_dir": Text(),
    "data.train_split": Text(),
    "data.eval_split": Text(),
    "data.crop": OneOf(("random_resized", "shift", "evaluation")),
    "data.crop_area": Numbers(2, Number(1e-6, 1), rising=True),
    "data.crop_covers": _SHARE,
    "data.shift_fraction": _SHARE,
    "data.flip": Flag(),
    "data.augment": OneOf(("none", "autoaugment_v0", "randaugment")),
    "data.augment_semantics": OneOf(("published", "clean")),
    "data.randaugment_layers": Whole(0, 100),
    "data.randaugment_magnitude": Number(0, 100),
    "data.random_erasing": _SHARE,
    "data.resize": OneOf(("bicubic_tf1", "bicubic", "bicubic_antialias", "bilinear")),
    "data.train_resize": OneOf(("fast", "exact")),
    "data.eval_crop": OneOf(("padding", "fraction", "none")),
    "data.eval_crop_padding": Whole(0, 10_000),
    "data.eval_crop_fraction": Number(1e-6, 1),
    "data.mean_rgb": Numbers(3, Number(0, 255)),
    "data.stddev_rgb": Numbers(3, Number(0, 255, without_low=True)),
    "data.apply_exif_orientation": Flag(),
    "data.stage": OneOf(("none", "disk", "memory")),
    "data.max_bad_images": Whole(0),
    "data.workers": Whole(-1, 4096),
    "model.variant": Text(),
    "model.dropout_rate": _PART,
    "model.survival_probability": Number(0, 1, without_low=True),
    "model.bn_momentum": _PART,
    "model.bn_epsilon": Number(0, 1, without_low=True),
    "model.bn_batch": Whole(1),
    "model.dtype": OneOf(("bfloat16", "float32", "float16")),
    "model.remat": Flag(),
    "progressive.stages": Whole(1, 1000),
    "progressive.ends": Durations(("epoch", "step", "%")),
    "progressive.image_sizes": Numbers(None, Whole(8, 4096)),
    "progressive.randaugment_magnitudes": Numbers(None, Number(0, 100)),
    "progressive.mixup_alphas": Numbers(None, Number(0, 100)),
    "progressive.cutmix_alphas": Numbers(None, Number(0, 100)),
    "progressive.dropout_rates": Numbers(None, _PART),
    "init_from": Text(),
    "finetune.head": OneOf(("auto", "keep", "new")),
    "finetune.frozen_stages": Whole(0),
    "finetune.frozen_batch_norm": Flag(),
    "finetune.trained": OneOf(("all", "classifier_and_last_norm")),
    "finetune.stage_lr_factor": Number(0, 10, without_low=True),
    "loss.label_smoothing": _PART,
    "loss.weight_decay": _SHARE,
    "loss.mixup_alpha": Number(0, 100),
    "loss.cutmix_alpha": Number(0, 100),
    "loss.mix_semantics": OneOf(("clean", "published")),
    "optimizer.name": OneOf(("rmsprop", "lars")),
    "optimizer.decay": _PART,
    "optimizer.momentum": _PART,
    "optimizer.epsilon": _POSITIVE,
    "optimizer.trust_coefficient": _POSITIVE,
    "optimizer.lars_weight_decay": _SHARE,
    "optimizer.lars_epsilon": _NOT_NEGATIVE,
    "schedule.name": OneOf(("exponential", "cosine", "polynomial", "constant")),
    "schedule.lr_per_256": _POSITIVE,
    "schedule.warmup": Duration(_TRAINING),
    "schedule.decay_rate": Number(0, 1, without_low=True),
    "schedule.decay_every": Duration(_TRAINING, something=True),
    "schedule.final_lr": _NOT_NEGATIVE,
    "ema.decay": _PART,
    "evaluation.every": Duration(_TRAINING),
    "evaluation.image_size": Whole(8, 4096),
    "evaluation.batch_size": Whole(1, LARGEST_BATCH),
    "evaluation.confusion": Flag(),
    "checkpoint.every": Duration(_TRAINING),
    "checkpoint.also_every": Duration(("minute",)),
    "checkpoint.keep": Whole(1),
    "checkpoint.keep_every": Duration(_TRAINING),
    "resume_changed": Flag(),
    "resume_changed_data": Flag(),
    "log.every": Duration(_TRAINING),
    "log.tensorboard": Flag(),
    "log.norms": Flag(),
    "watchdog.warn_seconds": Whole(0),
    "watchdog.abort_seconds": Whole(0),
    "watchdog.peer_seconds": Whole(1),
    "launch.accelerator_type": Text(),
    "launch.spot": Flag(),
}


def problems(config: ConfigDict) -> list[str]:
    """Returns a sentence for each key whose value is outside its domain."""
    found = ((key, value_of(config, key)) for key in DOMAINS)
    return [_problem(key, value) for key, value in found if value is not None and value not in DOMAINS[key]]


def check(config: ConfigDict) -> None:
    """Refuses values outside their domains.

    Raises:
      ConfigError: the message names each such key with its value and the expected domain.
    """
    if found := problems(config):
        raise ConfigError("; ".join(found))


def check_value(key: str, value: Any) -> None:
    """Refuses a value outside a key's domain, for callers without a whole configuration.

    Raises:
      ConfigError: the message has key, value and domain.
    """
    if value not in DOMAINS[key]:
        raise ConfigError(_problem(key, value))


def value_of(config: ConfigDict, key: str) -> Any:
    """Returns the value at a key such as "model.variant"."""
    for part in key.split("."):
        config = config[part]
    return config


def _problem(key: str, value: Any) -> str:
    return f"config.{key} is {value!r}; expected {DOMAINS[key]}"
