"""Progressive learning: the image size, augmentation and regularisation of each step.

A run is a sequence of stages, and the stage of a step follows from the step alone. So batches stay pure functions of the
step, and a run resumes in any stage. Learning rate, averages and the order of the images continue across boundaries. Unset
keys of `config.progressive` are interpolated as by EfficientNetV2's authors, for any network and dataset.

Source: google/automl, efficientnetv2/main.py; Tan and Le, arXiv 2104.00298, section 4, whose table 6 has larger maxima than
the code and a dropout that rises.
"""

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from pipeline.configuration.durations import in_steps, parse
from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture

# Sizes rise in equal steps from here; no stage has this size itself [main.py]. The second value is for small images. The
# published starts are at most that share of the last size (B0: 128 of 192).
START_PIXELS, LARGEST_START_SHARE = 128, 2 / 3
FIRST_MAGNITUDE = 5.0  # of RandAugment [main.py]


@dataclasses.dataclass(frozen=True)
class Stage:
    """The settings of one stage.

    Attributes:
      end_step: The number of steps after which the stage ends; it begins where the one before ends.
      image_size: Pixels of each side of the training images.
      randaugment_magnitude: As `config.data.randaugment_magnitude`; None if the augmentation is another.
      mixup_alpha: As `config.loss.mixup_alpha`.
      cutmix_alpha: As `config.loss.cutmix_alpha`.
      dropout_rate: As `config.model.dropout_rate`.
    """

    end_step: int
    image_size: int
    randaugment_magnitude: float | None
    mixup_alpha: float
    cutmix_alpha: float
    dropout_rate: float

    def describe(self) -> str:
        """Returns the stage in words."""
        magnitude = self.randaugment_magnitude
        randaugment = "" if magnitude is None else f"RandAugment {magnitude:.3g}, "
        return (
            f"up to step {self.end_step:,}: {self.image_size} px, {randaugment}mixup {self.mixup_alpha:.3g}, "
            f"CutMix {self.cutmix_alpha:.3g}, dropout {self.dropout_rate:.3g}"
        )

    def configure(self, config: ConfigDict) -> ConfigDict:
        """Returns a copy of the configuration with the stage's values."""
        config = config.copy_and_resolve_references()
        config.image_size = self.image_size
        if self.randaugment_magnitude is not None:
            config.data.randaugment_magnitude = self.randaugment_magnitude
        config.loss.mixup_alpha, config.loss.cutmix_alpha = self.mixup_alpha, self.cutmix_alpha
        config.model.dropout_rate = self.dropout_rate
        return config


def resolve_stages(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> tuple[Stage, ...]:
    """Returns the stages of a run; a single one with the configuration's values if nothing is progressive.

    Raises:
      ConfigError: a list lacks a value for a stage, ends do not rise within the run, sizes contradict `config.image_size`, or
        magnitudes are given without RandAugment.
    """
    settings, network = config.progressive, architecture(config.model.variant)
    image_size = network.resolution if config.image_size is None else config.image_size
    dropout_rate = network.dropout_rate if config.model.dropout_rate is None else config.model.dropout_rate
    loss = config.loss
    columns = (
        _ends(config, total_steps, steps_per_epoch),
        _given(config, "image_sizes") or sizes(image_size, settings.stages),
        _magnitudes(config),
        _given(config, "mixup_alphas") or rising(0.0, loss.mixup_alpha, settings.stages),
        _given(config, "cutmix_alphas") or rising(0.0, loss.cutmix_alpha, settings.stages),
        _given(config, "dropout_rates") or (dropout_rate,) * settings.stages,  # constant in the authors' code
    )
    if max(columns[1]) != image_size:
        raise ConfigError(
            f"config.progressive.image_sizes={tuple(columns[1])}: the largest must be the size of the run, which is "
            f"{image_size} (--config.image_size={max(columns[1])} makes it that)"
        )
    return tuple(Stage(*values) for values in zip(*columns, strict=True))


def stage_at(stages: Sequence[Stage], step: int) -> int:
    """Returns the index of the stage that the update after `step` steps belongs to.

    >>> stages = [Stage(end, 8, 0.0, 0.0, 0.0, 0.0) for end in (10, 20)]
    >>> [stage_at(stages, step) for step in (0, 9, 10, 19)]
    [0, 0, 1, 1]
    """
    return sum(step >= stage.end_step for stage in stages[:-1])


def sizes(last: int, stages: int) -> tuple[int, ...]:
    """Returns the image sizes, rising to `last`.

    >>> sizes(300, 4)
    (171, 214, 257, 300)
    """
    start = min(START_PIXELS, int(last * LARGEST_START_SHARE))
    return tuple(int(start + (last - start) * (stage + 1) / stages) for stage in range(stages))


def rising(first: float, last: float, stages: int) -> tuple[float, ...]:
    """Returns values in equal steps from `first` to `last` inclusive; only `last` for one stage.

    >>> rising(5.0, 20.0, 4)
    (5.0, 10.0, 15.0, 20.0)
    """
    first = min(first, last)
    return (*(first + (last - first) * stage / (stages - 1) for stage in range(stages - 1)), last)


def changed_by_duration(progressive: dict) -> bool:
    """Returns whether the stages of a configuration, given as nested dictionaries, depend on its duration."""
    ends = progressive["ends"]
    return progressive["stages"] > 1 and (not ends or any(parse(end, "").unit == "%" for end in ends))


def _magnitudes(config: ConfigDict) -> tuple[float | None, ...]:
    """Returns the magnitude of RandAugment of each stage; None without RandAugment."""
    given, stages, augment = _given(config, "randaugment_magnitudes"), config.progressive.stages, config.data.augment
    if augment == "randaugment":
        return given or rising(FIRST_MAGNITUDE, float(config.data.randaugment_magnitude), stages)
    if given:
        raise ConfigError(
            f"config.progressive.randaugment_magnitudes={given} has no effect with config.data.augment={augment!r}: leave it "
            "out, or give --config.data.augment=randaugment"
        )
    return (None,) * stages


def _given(config: ConfigDict, key: str) -> tuple:
    """Returns the values of a list of `config.progressive`; none if it is empty."""
    values, stages = tuple(config.progressive[key]), config.progressive.stages
    if values and len(values) != stages:
        raise ConfigError(
            f"config.progressive.{key}={values} has {len(values)} values and config.progressive.stages is {stages}: give one "
            "for each stage, or none"
        )
    return values


def _ends(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> tuple[int, ...]:
    """Returns the number of steps after which each stage ends; the last ends with the run."""
    texts, stages = tuple(config.progressive.ends), config.progressive.stages
    if texts and len(texts) != stages - 1:
        raise ConfigError(
            f"config.progressive.ends={texts} has {len(texts)} values and config.progressive.stages is {stages}: give one for "
            "each stage but the last, which ends with the run, or none"
        )
    if texts:
        ends = (*(_in_steps(text, total_steps, steps_per_epoch) for text in texts), total_steps)
    else:
        ends = tuple(int((stage + 1) / stages * total_steps) for stage in range(stages))
    if not all(earlier < later for earlier, later in zip((0, *ends), ends)):
        raise ConfigError(
            f"config.progressive has stages that end after {', '.join(f'{end:,}' for end in ends)} steps: each must end after "
            f"the one before, and the last is config.duration={config.duration!r}"
        )
    return ends


def _in_steps(text: str, total_steps: int, steps_per_epoch: float) -> int:
    duration = parse(text, "progressive.ends")
    if duration.unit == "%":
        return int(duration.amount / 100 * total_steps)
    return int(in_steps(text, steps_per_epoch, "progressive.ends"))
