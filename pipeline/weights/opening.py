"""Opens weights of any kind: a run, our folder, the authors' checkpoint, or a file of timm, PyTorch or Keras.

The kind is recognised by the content. A path of another kind is one error that lists the known ones. Export, evaluate, predict,
convert and fine-tuning all open weights here.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Generator
from typing import Any

from absl import logging
from etils import epath

from pipeline.errors import ConfigError, DataError
from pipeline.storage import local
from pipeline.weights import directory, keras_files, official, runs, timm
from pipeline.weights.container import Weights
from pipeline.weights.identification import PUBLISHED, ForeignWeights
from pipeline.weights.metadata import EMA, RAW, Metadata
from pipeline.weights.plain_files import read_json
from pipeline.weights.tensor_files import open_tensors
from pipeline.weights.torch_files import open_state_dict

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")
_KNOWN = (
    "known are a run of pipeline.train, a folder of pipeline.export or pipeline.convert, a TensorFlow checkpoint, "
    f"timm's folder, and files {' '.join((*keras_files.SUFFIXES, '.safetensors', *_TORCH_SUFFIXES))}"
)


@dataclasses.dataclass(frozen=True)
class Overrides:
    """The user's statements about weights, which override the file's; None leaves a field to the file.

    Attributes:
      kind: "ema" or "raw", if there are both.
      checkpoint: The checkpoint of a run: "newest", "best" or a step.
      variant: The required network.
      preprocessing: A key of `identification.PUBLISHED`.
      image_size: The image size in pixels.
      class_names: A name for each class.
    """

    kind: str | None = None
    checkpoint: str = runs.NEWEST
    variant: str | None = None
    preprocessing: str | None = None
    image_size: int | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.kind not in (None, EMA, RAW):
            raise ConfigError(f"--kind={self.kind} is neither ema nor raw")
        if self.preprocessing not in (None, *PUBLISHED):
            raise ConfigError(f"--preprocessing={self.preprocessing} is not one of {', '.join(PUBLISHED)}")


def open_weights(location: str, overrides: Overrides = Overrides()) -> Weights:
    """Reads weights of any kind.

    Args:
      location: A folder, file or checkpoint prefix; a run, folder or file may be `gs://…`.
      overrides: See `Overrides`.

    Raises:
      ConfigError: an override does not fit these weights.
      DataError: there are no readable weights, or they are damaged or of another network. Nothing in a file is ever run.
    """
    path = pathlib.Path(location)
    if local.is_remote(location) and not runs.is_run(location):
        return _open_remote(location, overrides)
    try:
        if runs.is_run(location):
            found = runs.read(location, overrides.checkpoint).choose(overrides.kind)
        elif path.is_dir() and directory.is_weights(path):
            found = directory.read(path)
        else:
            with _open_foreign(path, location, overrides) as foreign:
                variant = overrides.variant or foreign.variant
                found = dataclasses.replace(foreign, variant=variant).identified()
            found = _metadata_beside(path, found)
    except OSError as error:
        raise DataError(f"{location} cannot be read: {error.strerror or error}") from error
    return _apply(found, overrides, location)


def open_all_weights(location: str, overrides: Overrides = Overrides()) -> list[Weights]:
    """Reads weights of any kind. Of a run these are averages and raw weights, unless `overrides` has a kind."""
    if not runs.is_run(location) or overrides.kind is not None:
        return [open_weights(location, overrides)]
    found = runs.read(location, overrides.checkpoint)
    return [_apply(weights, overrides, location) for weights in (found.ema, found.raw) if weights is not None]


def _open_remote(location: str, overrides: Overrides) -> Weights:
    try:
        with local.local_copy(location) as copy:
            return open_weights(str(copy), overrides)
    except FileNotFoundError as error:
        raise DataError(f"{location} does not exist") from error


@contextlib.contextmanager
def _open_foreign(path: pathlib.Path, location: str, overrides: Overrides) -> Generator[ForeignWeights]:
    if not epath.Path(location).exists() and official.find_checkpoint(path) is None:
        raise DataError(f"{location} does not exist")
    if path.is_dir() and (path / timm.TENSORS).exists():
        with timm.open_folder(path, ignore_preprocessing=overrides.preprocessing is not None) as foreign:
            yield foreign
    elif prefix := official.find_checkpoint(path):
        with official.open_checkpoint(prefix, overrides.kind) as foreign:
            yield foreign
    elif path.is_dir():
        raise DataError(f"{location} is a folder without weights that are known here: {_KNOWN}")
    elif path.suffix in keras_files.SUFFIXES:
        with keras_files.open_file(path) as foreign:
            yield foreign
    elif path.suffix == ".safetensors":
        with open_tensors(path) as tensors:
            yield timm.from_state_dict(tensors)
    elif path.suffix in _TORCH_SUFFIXES:
        with open_state_dict(path) as tensors:
            yield timm.from_state_dict(tensors)
    else:
        raise DataError(f"{location} holds no weights that are known here: {_KNOWN}")


def _metadata_beside(path: pathlib.Path, found: Weights) -> Weights:
    """Uses the metadata that an export left beside its file, if they are this project's and of the same network."""
    beside = (path if path.is_dir() else path.parent) / directory.METADATA
    if not beside.is_file():
        return found
    try:
        content = read_json(beside)
    except DataError as error:
        logging.warning("%s. It may have stated how images are prepared for these weights.", error)
        return found
    if not isinstance(content, dict) or "format" not in content:  # Keras has a file of this name too
        logging.info("%s is not of this project and says nothing of these weights.", beside)
        return found
    metadata = Metadata.from_json(content, str(beside))
    if _shapes(metadata) == _shapes(found.metadata):  # ResNet's v1 and v1.5 have the same tensors
        return dataclasses.replace(found, metadata=metadata)
    stated, tensors = (f"{each.variant} with {each.num_classes} classes" for each in (metadata, found.metadata))
    logging.warning("%s is of %s, and the tensors are of %s: it is left aside.", beside, stated, tensors)
    return found


def _shapes(metadata: Metadata) -> dict[str, tuple[int, ...]]:
    return {tensor.path: tensor.shape for tensor in metadata.table}


def _apply(weights: Weights, overrides: Overrides, location: str) -> Weights:
    metadata = weights.metadata
    if overrides.variant not in (None, metadata.variant):
        raise ConfigError(f"{location} holds {metadata.variant}, not {overrides.variant}")
    if overrides.kind not in (None, metadata.kind):
        raise ConfigError(f"{location} holds {metadata.kind} weights, not {overrides.kind}")
    changes: dict[str, Any] = {}
    if overrides.preprocessing is not None:
        changes["preprocessing"] = PUBLISHED[overrides.preprocessing]
    if overrides.image_size is not None:
        if overrides.image_size != metadata.image_size:
            logging.warning("These weights are for %d pixels, not %d.", metadata.image_size, overrides.image_size)
        changes["image_size"] = overrides.image_size
    if overrides.class_names is not None:
        changes["class_names"] = overrides.class_names
    try:
        return dataclasses.replace(weights, metadata=dataclasses.replace(metadata, **changes))
    except DataError as error:
        raise ConfigError(f"{location}: {error}") from error
