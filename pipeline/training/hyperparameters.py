"""Every number that follows from a configuration, the dataset and the devices, computed once and printed at start.

This is where a configuration is found to be impossible: whatever passes here can be trained. Nothing else in the project
turns epochs into steps or scales a learning rate.
"""

import dataclasses

from absl import logging
from ml_collections import ConfigDict

from pipeline.errors import ConfigError
from pipeline.model.scaling import architecture
from pipeline.training.durations import in_minutes, in_steps

# RMSProp holds its accuracy up to this batch, and loses half of it at 32,768: arXiv 2011.00071, tpu#571.
RMSPROP_LARGEST_BATCH = 16_384


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The resolved numbers of one run; counts in images or steps, sizes in pixels."""

    num_classes: int
    num_train_examples: int
    num_eval_examples: int
    batch_size: int
    eval_batch_size: int
    image_size: int
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
        """Returns the numbers as a few aligned lines."""
        width = max(len(field.name) for field in dataclasses.fields(self))
        rows = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return "\n".join(f"  {name:{width}}  {value:,.6g}" if isinstance(value, float) else f"  {name:{width}}  {value:,}"
                         for name, value in rows)  # fmt: skip


def resolve(
    config: ConfigDict, *, num_classes: int, num_train_examples: int, num_eval_examples: int, num_devices: int
) -> Hyperparameters:
    """Turns a configuration into numbers for a dataset and a number of devices.

    Raises:
      ConfigError: a value that cannot work; the text names the key, the value and what would.
    """
    _require(num_classes >= 2, f"the dataset {config.data.name!r} has {num_classes} class(es): two or more are needed")
    _require(num_train_examples > 0, f"config.data.train_split={config.data.train_split!r} holds no example")
    _require(num_eval_examples > 0, f"config.data.eval_split={config.data.eval_split!r} holds no example")
    _require(
        config.batch_size > 0 and config.batch_size % num_devices == 0,
        f"config.batch_size={config.batch_size} must be a positive multiple of the {num_devices} devices, "
        f"for example {max(1, round(config.batch_size / num_devices)) * num_devices}",
    )
    _require(
        config.evaluation.batch_size > 0,
        f"config.evaluation.batch_size={config.evaluation.batch_size} must be positive; it is rounded up to the devices",
    )
    bn_batch = min(config.model.bn_batch, config.batch_size)
    _require(
        bn_batch > 0 and config.batch_size % bn_batch == 0,
        f"config.model.bn_batch={config.model.bn_batch} does not divide config.batch_size={config.batch_size}",
    )
    image_size = config.image_size or architecture(config.model.variant).resolution
    _require(image_size >= 8, f"config.image_size={image_size}: pictures of at least 8 pixels are needed")

    if config.optimizer.name == "rmsprop" and config.batch_size > RMSPROP_LARGEST_BATCH:
        logging.warning(
            "config.batch_size=%d: with RMSProp accuracy is known to fall beyond %d; try config.optimizer.name='lars'",
            config.batch_size,
            RMSPROP_LARGEST_BATCH,
        )
    steps_per_epoch = num_train_examples / config.batch_size
    total_steps = round(in_steps(config.duration, steps_per_epoch, "duration"))
    _require(
        total_steps >= 1, f"config.duration={config.duration!r} is less than one step of {config.batch_size} images"
    )
    return Hyperparameters(
        num_classes=num_classes,
        num_train_examples=num_train_examples,
        num_eval_examples=num_eval_examples,
        batch_size=config.batch_size,
        eval_batch_size=-(-config.evaluation.batch_size // num_devices) * num_devices,
        image_size=image_size,
        bn_batch=bn_batch,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        peak_lr=config.schedule.lr_per_256 * config.batch_size / 256,
        warmup_steps=int(in_steps(config.schedule.warmup, steps_per_epoch, "schedule.warmup")),
        decay_every_steps=in_steps(config.schedule.decay_every, steps_per_epoch, "schedule.decay_every"),
        evaluate_every_steps=in_steps(config.evaluation.every, steps_per_epoch, "evaluation.every"),
        checkpoint_every_steps=in_steps(config.checkpoint.every, steps_per_epoch, "checkpoint.every"),
        checkpoint_every_minutes=in_minutes(config.checkpoint.also_every, "checkpoint.also_every"),
        keep_every_steps=in_steps(config.checkpoint.keep_every, steps_per_epoch, "checkpoint.keep_every"),
        log_every_steps=in_steps(config.log.every, steps_per_epoch, "log.every"),
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
