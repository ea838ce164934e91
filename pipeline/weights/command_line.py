"""The flags of the commands that take weights: where the weights are, and what overrides their metadata."""

import importlib.resources
import pathlib
import typing

from absl import flags

from pipeline.errors import ConfigError, DataError
from pipeline.host.announcing import announce
from pipeline.host.paths import expanded, known_place
from pipeline.weights.plain_files import read_text

if typing.TYPE_CHECKING:  # importing them takes seconds, which are announced first
    from pipeline.weights import opening
    from pipeline.weights.container import Weights

_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of any kind: a folder, a checkpoint, a file, or a run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The directory of a run whose weights to take.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "newest", "Of a run: newest, best, or a step.")
_KIND = flags.DEFINE_string("kind", None, "ema or raw. Default: the moving averages, where there are any.")
_VARIANT = flags.DEFINE_string("variant", None, "The network that the weights have to be of, such as b0.")
_PREPROCESSING = flags.DEFINE_string(
    "preprocessing", None, "imagenet, advprop or lite, in place of what comes with the weights."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels, in place of the size that comes with the weights.")
_CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "A file with one name on each line, or imagenet for its 1000 classes."
)


def define_out() -> flags.FlagHolder[str | None]:
    """Defines `--out DIRECTORY`."""
    return flags.DEFINE_string("out", None, "The folder to write; it may not hold anything yet.")


def out(folder: str | None) -> str:
    """Returns the value of `--out` with its `~` expanded; raises `ConfigError` without one."""
    if not folder:
        raise ConfigError("--out is missing: name the folder to write")
    return expanded(folder)


def open_weights(path: str | None = None) -> "Weights":
    """Opens the weights at `path`, by default those that --weights or --workdir name.

    Raises:
      ConfigError: neither or both flags are given.
      DataError: see `opening.open_weights`.
    """
    where = known_place(path) if path else location()
    _announce(where)
    from pipeline.weights import opening

    return opening.open_weights(where, overrides())


def open_all_weights() -> dict[str, "Weights"]:
    """Opens the weights that --weights or --workdir name. Of a run these are averages and raw weights, unless --kind is given.

    Returns:
      Weights by kind.
    """
    where = location()
    _announce(where)
    from pipeline.weights import opening

    return {weights.metadata.kind: weights for weights in opening.open_all_weights(where, overrides())}


def location() -> str:
    """Returns the location of the weights; raises `ConfigError` unless one of --weights and --workdir is given."""
    locations = [value for value in (_WEIGHTS.value, _WORKDIR.value) if value]
    if len(locations) != 1:
        raise ConfigError("name the weights with one of --weights and --workdir")
    return expanded(locations[0])


def overrides() -> "opening.Overrides":
    """Returns the overrides that the flags give."""
    from pipeline.weights import opening

    return opening.Overrides(
        kind=_KIND.value,
        checkpoint=_CHECKPOINT.value,
        variant=_VARIANT.value,
        preprocessing=_PREPROCESSING.value,
        image_size=_IMAGE_SIZE.value,
        class_names=_read_class_names(_CLASS_NAMES.value),
    )


def _announce(where: str) -> None:
    announce(f"Opening the weights in {where}", "10 seconds; those of a large run or of a bucket a minute")


def _read_class_names(name: str | None) -> tuple[str, ...] | None:
    if name is None:
        return None
    try:
        if name == "imagenet":
            text = (importlib.resources.files("pipeline.weights") / "imagenet_class_names.txt").read_text("utf-8")
        else:
            text = read_text(pathlib.Path(expanded(name)), pipe=True)
    except DataError as error:
        raise ConfigError(f"--class_names: {error}") from error
    return tuple(text.removeprefix("\ufeff").splitlines())  # the mark of UTF-8 that some editors write
