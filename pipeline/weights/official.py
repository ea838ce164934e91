"""Reads and writes the authors' TensorFlow checkpoints.

A checkpoint has raw variables, their averages ("…/ExponentialMovingAverage", including BatchNorm statistics), or both, and
perhaps optimizer slots. Older and LARS-trained ones have `batch_normalization` instead of `tpu_batch_normalization`. Averages
and raw variables are never mixed: an incomplete set is refused.
"""

import contextlib
import functools
import glob
import math
import pathlib
import re
from collections.abc import Generator, Iterable

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.host.printable import printable
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture
from pipeline.storage import literal_names
from pipeline.weights.container import Weights
from pipeline.weights.identification import ForeignWeights
from pipeline.weights.metadata import EMA, RAW
from pipeline.weights.names import official_scope
from pipeline.weights.plain_files import check_regular, read_text
from pipeline.weights.stored import StoredTensor, StoredTensors

CHECKPOINT = "model.ckpt"
_AVERAGE = "/ExponentialMovingAverage"
_STEP = "global_step"
_OPTIMIZER = re.compile(r"/(RMSProp|Momentum|LARSOptimizer|Adam)(_\d+)?$")
_BATCH_NORM = re.compile(r"/batch_normalization(?=[_/])")


def find_checkpoint(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the prefix of a checkpoint, given that prefix, its `.index` file, or a folder, whose newest one is taken."""
    if path.name and path.with_name(path.name + ".index").exists():  # "/" and "." have no name
        return path
    if path.suffix == ".index" and path.exists():
        return path.with_suffix("")
    if (path / "checkpoint").is_file():
        stated = re.search(r'^model_checkpoint_path: "(.+)"', read_text(path / "checkpoint"), re.M)
        named = path / pathlib.Path(stated[1]).name if stated else None
        if named is not None and named.with_name(named.name + ".index").exists():
            return named
    indices = sorted(path.glob("*.index")) if path.is_dir() else []
    return indices[0].with_suffix("") if len(indices) == 1 else None


@contextlib.contextmanager
def open_checkpoint(prefix: pathlib.Path, kind: str | None = None) -> Generator[ForeignWeights]:
    """Lists the variables of a checkpoint; they can be read inside the block.

    Args:
      prefix: The prefix of its file names.
      kind: "ema" or "raw"; by default the averages if there are any.

    Raises:
      ConfigError: `kind` is not in the checkpoint.
      DataError: the checkpoint is damaged, or holds variables of several networks.
    """
    data = sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))
    index = prefix.with_name(f"{prefix.name}.index")
    for path in (index, *data):
        check_regular(path)
    with literal_names.linked([index, *data]) as files:
        yield _listed(prefix, kind, data, str(files[0].with_suffix("")))


def _listed(prefix: pathlib.Path, kind: str | None, data: list[pathlib.Path], readable: str) -> ForeignWeights:
    """Lists the variables of the checkpoint `prefix`, which TensorFlow opens under the name `readable`."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(readable)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except Exception as error:  # damage makes TensorFlow raise errors of many types
        raise DataError(f"{prefix} cannot be read as a TensorFlow checkpoint: {_first_line(error)}") from error
    needed = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
    found = sum(path.stat().st_size for path in data)
    if needed > found:
        raise DataError(f"{prefix} is cut off: its variables take {needed:,} bytes, and its data files have {found:,}")
    by_kind = _by_kind(shapes)
    kind = kind or (EMA if by_kind[EMA] else RAW)
    chosen = by_kind[kind]
    if not chosen:
        raise ConfigError(f"{prefix} holds no {kind} variables")
    scopes = {name.split("/", 1)[0] for name in chosen}
    if len(scopes) > 1:
        raise DataError(f"{prefix} holds variables of several networks: {printable(', '.join(sorted(scopes)))}")
    tensors = {}
    for name, stored in chosen.items():
        if _canonical(name) in tensors:
            raise DataError(f"{prefix} holds {printable(_canonical(name))} twice")
        read = functools.partial(reader.get_tensor, stored)
        tensors[_canonical(name)] = StoredTensor(tuple(shapes[stored]), dtypes[stored].name, read)
    return ForeignWeights(
        StoredTensors(tensors, str(prefix), found),
        convention="official",
        kind=kind,
        step=_step(prefix, reader, shapes, dtypes),
    )


def _by_kind(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Returns the model's variables of each kind: the names they are stored under by their names without a suffix."""
    model_names = [name for name in names if "/" in name and not _OPTIMIZER.search(name)]
    return {
        EMA: {name.removesuffix(_AVERAGE): name for name in model_names if name.endswith(_AVERAGE)},
        RAW: {name: name for name in model_names if not name.endswith(_AVERAGE)},
    }


def _step(prefix: pathlib.Path, reader, shapes: dict, dtypes: dict) -> int | None:
    """Returns the checkpoint's step, if it states one."""
    if shapes.get(_STEP) != [] or dtypes[_STEP].name not in ("int64", "int32"):
        return None
    try:
        step = int(reader.get_tensor(_STEP))
    except Exception as error:
        raise DataError(f"{prefix} is damaged: {_STEP} cannot be read: {_first_line(error)}") from error
    return step if step >= 0 else None


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes `model.ckpt` and the `checkpoint` file that refers to it; averages get the names of averages.

    Raises:
      ConfigError: the authors' code does not have the network.
    """
    import tensorflow as tf

    network = architecture(weights.metadata.variant)
    if network.name not in VARIANTS or not network.family.name.startswith("efficientnet"):
        raise ConfigError(
            f"the authors' code has no network {network.name}: the official format is for EfficientNet, Lite and V2"
        )
    suffix = _AVERAGE if weights.metadata.kind == EMA else ""
    arrays = {
        f"{official_scope(network)}/{name}{suffix}": array for name, array in weights.in_convention("official").items()
    }
    if weights.metadata.step is not None:
        arrays[_STEP] = np.array(weights.metadata.step, np.int64)
    tf.raw_ops.SaveV2(
        prefix=str(folder / CHECKPOINT),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{CHECKPOINT}"\n')


def _canonical(name: str) -> str:
    """Removes the model's scope and gives BatchNorm its name in the table."""
    return _BATCH_NORM.sub("/tpu_batch_normalization", name.split("/", 1)[1])


def _first_line(error: Exception) -> str:
    return printable(str(error).strip().split("\n", 1)[0][:300])
