"""Every number that follows from a configuration, the dataset and the devices, computed once and printed at start.

`domains.py` checks single keys. This module checks combinations of keys, the dataset and the devices. A configuration that
passes can be trained; one that is known to cost accuracy gets a warning. The numbers of the stages come from `stages.py`. No
module but these two turns epochs into steps, and none but this scales a learning rate.
"""

import dataclasses
import math

from absl import logging
from ml_collections import ConfigDict

from pipeline.configuration import domains
from pipeline.configuration.durations import in_minutes, in_steps
from pipeline.configuration.stages import Stage, resolve_stages
from pipeline.errors import ConfigError

# RMSProp keeps its accuracy up to this batch and loses half of it at 32,768: arXiv 2011.00071, tensorflow/tpu#571.
RMSPROP_LARGEST_BATCH = 16_384
LARS_RECIPE = (
    "the published runs with LARS have optimizer.name='lars', schedule.name='polynomial' and, at batch 16,384, 32,768 and "
    "65,536, schedule.lr_per_256=0.236, 0.118 and 0.081 with schedule.warmup='50 epochs', '50 epochs' and '43 epochs'"
)
RMSPROP_LR_PER_256 = 0.016  # LARS needs a hundred times as much, because its rates are relative to the weights
LARGEST_FLOAT32 = 3.4e38
LARGEST_STEP = 2**31 - 1  # steps are int32 on the devices
SMALLEST_SHARE_AFTER_WARMUP = 0.9  # of the peak; the recipe's is 0.94
SMALLEST_DEVIATION = 2.0  # for pixels from 0 to 255; for pixels from 0 to 1 it is about 0.2, and 1 means no scaling


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The resolved hyperparameters of one run: counts in images or steps, sizes in pixels."""

    num_classes: int
    num_train_examples: int
    num_eval_examples: int
    batch_size: int
    eval_batch_size: int
    image_size: int  # of training; of its largest stage
    eval_image_size: int
    stages: tuple[Stage, ...]
    bn_batch: int
    steps_per_epoch: float
    total_steps: int
    peak_lr: float
    warmup_steps: int
    decay_every_steps: float
    evaluate_every_steps: float
    checkpoint_every_steps: float
    checkpoint_every_minutes: float
    keep_every_steps: float
    log_every_steps: float

    def describe(self) -> str:
        """Returns the hyperparameters as aligned lines; stages only if there are several."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "stages"]
        width = max(map(len, names))
        rows = [f"{name:{width}}  {_written(getattr(self, name))}" for name in names]
        if len(self.stages) > 1:
            rows += [f"{f'stage {number}':{width}}  {stage.describe()}" for number, stage in enumerate(self.stages, 1)]
        return "\n".join(f"  {row}" for row in rows)


def resolve(
    config: ConfigDict, *, num_classes: int, num_train_examples: int, num_eval_examples: int, num_devices: int
) -> Hyperparameters:
    """Resolves a configuration for a dataset and a number of devices.

    Raises:
      ConfigError: a value cannot work; the message names the key, the value and one that works.
    """
    domains.check(config)
    _require(num_classes >= 2, f"the dataset {config.data.name!r} has {num_classes} class(es): two or more are needed")
    _require(num_train_examples > 0, f"config.data.train_split={config.data.train_split!r} holds no example")
    _require(num_eval_examples > 0, f"config.data.eval_split={config.data.eval_split!r} holds no example")
    _require(
        config.batch_size % num_devices == 0,
        f"config.batch_size={config.batch_size} must be a multiple of the {num_devices} devices, "
        f"for example {max(1, round(config.batch_size / num_devices)) * num_devices}",
    )
    bn_batch = min(config.model.bn_batch, config.batch_size)
    _require(
        config.batch_size % bn_batch == 0,
        f"config.model.bn_batch={config.model.bn_batch} does not divide config.batch_size={config.batch_size}",
    )
    steps_per_epoch = num_train_examples / config.batch_size
    total_steps = round(in_steps(config.duration, steps_per_epoch, "duration"))
    _require(
        total_steps >= 1, f"config.duration={config.duration!r} is less than one step of {config.batch_size} images"
    )
    _require(
        total_steps <= LARGEST_STEP,
        f"config.duration={config.duration!r} is more than the {LARGEST_STEP:,} steps possible",
    )
    stages = resolve_stages(config, total_steps, steps_per_epoch)
    image_size = max(stage.image_size for stage in stages)
    peak_lr = config.schedule.lr_per_256 * config.batch_size / 256
    warmup_steps = int(in_steps(config.schedule.warmup, steps_per_epoch, "schedule.warmup"))
    _check_schedule(config, peak_lr=peak_lr, warmup_steps=warmup_steps, total_steps=total_steps)
    decay_every_steps = in_steps(config.schedule.decay_every, steps_per_epoch, "schedule.decay_every")
    after_warmup = {
        "exponential": config.schedule.decay_rate ** (warmup_steps // decay_every_steps),
        "cosine": (1 + math.cos(math.pi * warmup_steps / total_steps)) / 2,
    }.get(config.schedule.name, 1.0)
    _warn(config, after_warmup)
    return Hyperparameters(
        num_classes=num_classes,
        num_train_examples=num_train_examples,
        num_eval_examples=num_eval_examples,
        batch_size=config.batch_size,
        eval_batch_size=-(-config.evaluation.batch_size // num_devices) * num_devices,
        image_size=image_size,
        eval_image_size=config.evaluation.image_size or image_size,
        stages=stages,
        bn_batch=bn_batch,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        peak_lr=peak_lr,
        warmup_steps=warmup_steps,
        decay_every_steps=decay_every_steps,
        evaluate_every_steps=in_steps(config.evaluation.every, steps_per_epoch, "evaluation.every"),
        checkpoint_every_steps=in_steps(config.checkpoint.every, steps_per_epoch, "checkpoint.every"),
        checkpoint_every_minutes=in_minutes(config.checkpoint.also_every, "checkpoint.also_every"),
        keep_every_steps=in_steps(config.checkpoint.keep_every, steps_per_epoch, "checkpoint.keep_every"),
        log_every_steps=in_steps(config.log.every, steps_per_epoch, "log.every"),
    )


def _check_schedule(config: ConfigDict, *, peak_lr: float, warmup_steps: int, total_steps: int) -> None:
    """Refuses schedules whose peak is not reached, or whose learning rate would rise or become negative."""
    schedule = config.schedule
    _require(
        peak_lr <= LARGEST_FLOAT32,
        f"config.schedule.lr_per_256={schedule.lr_per_256} makes a learning rate of {peak_lr:g}, which float32 does not have",
    )
    _require(
        warmup_steps < total_steps,
        f"config.schedule.warmup={schedule.warmup!r} is {warmup_steps:,} steps and config.duration={config.duration!r} is "
        f"{total_steps:,}: the run would end before its learning rate has reached {peak_lr:g}. Make it longer or the warm-up "
        "shorter, for example --config.schedule.warmup='0 steps'",
    )
    _require(
        schedule.name != "polynomial" or schedule.final_lr < peak_lr,
        f"config.schedule.final_lr={schedule.final_lr:g} is absolute and not below the peak of {peak_lr:g}, which is "
        f"config.schedule.lr_per_256={schedule.lr_per_256:g} times {config.batch_size} / 256: the polynomial would not fall. "
        "Give a smaller one",
    )


def _warn(config: ConfigDict, after_warmup: float) -> None:
    """Warns of what is known to cost accuracy; `after_warmup` is the rate after the warm-up, as a share of the peak."""
    if after_warmup < SMALLEST_SHARE_AFTER_WARMUP:
        logging.warning(
            "config.schedule.warmup=%r: the clock of %r starts at step 0, so at the end of the warm-up the learning rate falls "
            "at once to %.0f%% of its peak; make the warm-up shorter",
            config.schedule.warmup,
            config.schedule.name,
            100 * after_warmup,
        )
    if config.optimizer.name == "rmsprop" and config.batch_size > RMSPROP_LARGEST_BATCH:
        logging.warning(
            "config.batch_size=%d: with RMSProp accuracy is known to fall beyond %d. Another optimizer alone does not help: %s",
            config.batch_size,
            RMSPROP_LARGEST_BATCH,
            LARS_RECIPE,
        )
    if config.optimizer.name == "lars" and (
        config.schedule.name != "polynomial" or config.schedule.lr_per_256 <= RMSPROP_LR_PER_256
    ):
        logging.warning(
            "config.optimizer.name='lars' with config.schedule.name=%r and config.schedule.lr_per_256=%g as for RMSProp: %s",
            config.schedule.name,
            config.schedule.lr_per_256,
            LARS_RECIPE,
        )
    if min(config.data.stddev_rgb) < SMALLEST_DEVIATION:
        logging.warning(
            "config.data.stddev_rgb=%s is almost surely meant for pixels from 0 to 1: here they are from 0 to 255, so multiply "
            "config.data.mean_rgb and config.data.stddev_rgb by 255",
            tuple(config.data.stddev_rgb),
        )


def _written(value: int | float) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
