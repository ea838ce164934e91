"""Reads Keras's files with h5py alone: `.keras`, `.weights.h5` and the older `.h5`.

Only numbers and layer names are read. The model description in a `.keras` file is ignored, so nothing of it is built or run.
HDF5 can refer to other files, by links, external storage and virtual datasets; all of these are refused. So are chunks and
compression, which Keras does not write.
"""

import contextlib
import io
import math
import pathlib
import zipfile
from collections.abc import Generator
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5l

from pipeline.errors import DataError
from pipeline.host.printable import printable
from pipeline.weights.archives import open_archive, read_entry
from pipeline.weights.identification import ForeignWeights
from pipeline.weights.keras_habits import without_habits
from pipeline.weights.metadata import IMAGENET_STDDEV_RGB, Preprocessing
from pipeline.weights.plain_files import check_regular
from pipeline.weights.stored import MAX_TENSORS, StoredTensor, StoredTensors

SUFFIXES = (".keras", ".h5", ".hdf5")
_ENTRY = "model.weights.h5"
_LARGEST_BYTES = 1 << 32  # L2, the largest of the family, has 2 GB
_DEEPEST = 8  # groups within groups; Keras has three


@contextlib.contextmanager
def open_file(path: pathlib.Path) -> Generator[ForeignWeights]:
    """Lists the tensors of a Keras file, which stays open inside the block.

    Raises:
      DataError: the file is damaged, refers to other files, or has no recognisable weights.
    """
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            content, available = _open_content(path, stack)
            file = stack.enter_context(h5py.File(content, "r"))
            convention, datasets = ("keras_h5", _numbered(file)) if _has(file, "layers") else ("keras", _named(file))
            tensors = {name: _stored(dataset, name) for name, dataset in datasets.items()}
            normalization = {name: tensors.pop(name) for name in list(tensors) if _is_normalization(name)}
            preprocessing = _preprocessing(normalization)
        except _Refused as error:
            raise DataError(f"{path}: {error}") from error
        except DataError:
            raise
        except Exception as error:  # damage makes h5py raise errors of many types
            reason = printable(f"{type(error).__name__}: {error}")
            raise DataError(f"{path} cannot be read as a Keras file: {reason}") from error
        found = StoredTensors(without_habits(tensors), str(path), available)
        yield ForeignWeights(found, convention, preprocessing=preprocessing)


class _Refused(Exception):
    """The file does not hold what Keras stores, or refers to other files."""


def _open_content(path: pathlib.Path, stack: contextlib.ExitStack) -> tuple[BinaryIO, int]:
    """Returns the HDF5 file, or the one inside a `.keras` archive, and its length."""
    if zipfile.is_zipfile(path):
        with open_archive(path) as archive:
            content = read_entry(archive, _ENTRY, _LARGEST_BYTES, path)
        return io.BytesIO(content), len(content)
    return stack.enter_context(path.open("rb")), path.stat().st_size


def _numbered(file: h5py.File) -> dict[str, h5py.HLObject]:
    """Returns the datasets of Keras 3, "layers/conv2d_3/vars/0"."""
    found: dict[str, h5py.HLObject] = {}
    _collect(_member(file, "layers"), "layers", found, seen=[0])
    return found


def _collect(item: h5py.HLObject, name: str, found: dict[str, h5py.HLObject], seen: list[int]) -> None:
    """Adds the datasets below a group; `seen` counts the visited objects."""
    seen[0] += 1
    if seen[0] > 4 * MAX_TENSORS or name.count("/") > _DEEPEST:
        raise _Refused("it holds more groups than any network of the family has")
    if isinstance(item, h5py.Dataset):
        found[name] = item
    elif isinstance(item, h5py.Group):
        for part in item:
            _collect(_member(item, part), f"{name}/{part}", found, seen)


def _named(file: h5py.File) -> dict[str, h5py.HLObject]:
    """Returns the datasets of Keras 1 and 2 under the names of Keras 3, "stem_conv/kernel"."""
    root = _member(file, "model_weights") if _has(file, "model_weights") else file
    found = {}
    for layer in root.attrs["layer_names"]:
        group = _member(root, _text(layer))
        for weight in group.attrs["weight_names"]:
            name = "/".join(_text(weight).split(":")[0].split("/")[-2:]).replace("depthwise_kernel", "kernel")
            if name in found:
                raise _Refused(f"it holds {printable(name)} twice")
            found[name] = _member(group, _text(weight))
            if len(found) > MAX_TENSORS:
                raise _Refused("it holds more tensors than any network of the family has")
    return found


def _member(group: h5py.HLObject, path: str) -> h5py.HLObject:
    """Returns the object at a path of a group; raises `_Refused` if a step of the path is a link to another file."""
    for part in path.split("/"):
        name = printable(f"{group.name}/{part}".lstrip("/"))
        if not isinstance(group, h5py.Group) or not _has(group, part):
            raise _Refused(f"{name} is missing")
        if group.id.links.get_info(part.encode()).type != h5l.TYPE_HARD:
            raise _Refused(f"{name} is a link to somewhere else, and links are not followed")
        group = group[part]
    return group


def _has(group: h5py.HLObject, name: str) -> bool:
    """Returns whether a group has a link of this name; h5py's `in` would open the file that it refers to."""
    return isinstance(group, h5py.Group) and bool(name) and group.id.links.exists(name.encode())


def _stored(dataset: h5py.HLObject, name: str) -> StoredTensor:
    """Checks where a dataset's numbers are before reading its shape, which can open other files."""
    name = printable(name)
    if not isinstance(dataset, h5py.Dataset):
        raise _Refused(f"{name} is not a dataset")
    created = dataset.id.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL:
        raise _Refused(f"{name} is a virtual dataset: its numbers are in other files, which are not read")
    if created.get_external_count():
        raise _Refused(f"{name} has its numbers in another file, which is not read")
    if created.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        raise _Refused(f"{name} is stored in chunks, which Keras does not write: save the file with Keras again")
    if dataset.shape is None or dataset.id.get_storage_size() != math.prod(dataset.shape) * dataset.dtype.itemsize:
        raise _Refused(f"{name} has the shape {dataset.shape}, and the file does not have its numbers")
    return StoredTensor(dataset.shape, dataset.dtype.name, lambda: dataset[()])


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_normalization(name: str) -> bool:
    """Returns whether a tensor belongs to the layer that normalises pixels, such as "normalization/mean"."""
    layer = name.removeprefix("layers/").split("/")[0]
    return layer == "normalization" or layer.startswith("normalization_")


def _preprocessing(normalization: dict[str, StoredTensor]) -> Preprocessing | None:
    """Returns mean and deviation, in pixel values, of the layer `normalization`, which takes pixels divided by 255.

    Keras's published files store the standard deviation in place of the variance (tensorflow#49930).
    """
    tensors = {name.split("/")[-1]: tensor for name, tensor in normalization.items()}
    mean, variance = tensors.get("mean", tensors.get("0")), tensors.get("variance", tensors.get("1"))
    if mean is None or variance is None or math.prod(mean.shape) != 3 or math.prod(variance.shape) != 3:
        return None
    mean, variance = (np.asarray(tensor.read(), np.float64).ravel() for tensor in (mean, variance))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise _Refused(f"its normalization layer has the mean {mean} and the variance {variance}")
    deviation = np.sqrt(variance)
    if np.allclose(variance * 255, IMAGENET_STDDEV_RGB, rtol=1e-3):
        deviation = variance
    return Preprocessing(mean_rgb=_in_pixel_values(mean), stddev_rgb=_in_pixel_values(deviation))


def _in_pixel_values(numbers: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(number) * 255 for number in numbers)
    return red, green, blue
