"""Keras's files, read with h5py alone: `.keras`, `.weights.h5` and the older `.h5`.

Only numbers and the names of layers are read. The description of the model that a `.keras` file carries is left alone, so
nothing of it is ever built or run.
"""

import io
import pathlib
import zipfile

import h5py
import numpy as np

from pipeline.errors import DataError
from pipeline.weights.identification import ForeignWeights
from pipeline.weights.metadata import IMAGENET_STDDEV_RGB, Preprocessing
from pipeline.weights.tensor_files import as_float32

SUFFIXES = (".keras", ".h5", ".hdf5")
_LARGEST_BYTES = 1 << 32  # L2, the largest of the family, has 2 GB


def read(path: pathlib.Path) -> ForeignWeights:
    """Reads a Keras file.

    Raises:
      DataError: it is damaged, or its layers have no weights that can be recognised.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entry = archive.getinfo("model.weights.h5")
                if entry.file_size > _LARGEST_BYTES:
                    raise DataError(f"{path} would unpack to {entry.file_size:,} bytes of weights")
                content = io.BytesIO(archive.read(entry))
        else:
            content = path
        with h5py.File(content, "r") as file:
            dialect, datasets = ("keras_h5", _numbered(file)) if "layers" in file else ("keras", _named(file))
            oversized = [name for name, dataset in datasets.items() if dataset.nbytes > _LARGEST_BYTES]
            if oversized:
                raise DataError(f"{path}: {oversized[0]} has the impossible shape {datasets[oversized[0]].shape}")
            arrays = {name: dataset[()] for name, dataset in datasets.items()}
    except DataError:
        raise
    except Exception as error:  # h5py raises whatever the damage led to
        raise DataError(f"{path} cannot be read as a Keras file: {type(error).__name__}: {error}") from error
    normalization = {name: array for name, array in arrays.items() if "normalization/" in name and "batch" not in name}
    normalization = {name: array for name, array in normalization.items() if not name.split("/")[-2].endswith("_bn")}
    rest = {name: array for name, array in arrays.items() if name not in normalization}
    return ForeignWeights(
        arrays=as_float32(rest, path), dialect=dialect, source=str(path), preprocessing=_preprocessing(normalization)
    )


def _numbered(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Returns the datasets of Keras 3, "layers/conv2d_3/vars/0"."""
    found = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return {name: dataset for name, dataset in found.items() if name.startswith("layers/")}


def _named(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Returns the datasets of Keras 1 and 2 under the names of Keras 3, "stem_conv/kernel"."""
    root = file.get("model_weights", file)
    found = {}
    for layer in root.attrs["layer_names"]:
        group = root[_text(layer)]
        for weight in group.attrs["weight_names"]:
            name = "/".join(_text(weight).split(":")[0].split("/")[-2:]).replace("depthwise_kernel", "kernel")
            found[name] = group[_text(weight)]
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _preprocessing(normalization: dict[str, np.ndarray]) -> Preprocessing | None:
    """Returns mean and deviation, in pixel values, of the layer `normalization`, which sees pixels divided by 255.

    The files that Keras offers for download hold the standard deviation where the variance belongs (tensorflow#49930).
    """
    values = {name.split("/")[-1]: np.asarray(array, np.float64) for name, array in normalization.items()}
    mean, variance = values.get("mean", values.get("0")), values.get("variance", values.get("1"))
    if mean is None or variance is None or mean.size != 3 or variance.size != 3:
        return None
    deviation = np.sqrt(variance.ravel())
    if np.allclose(variance.ravel() * 255, IMAGENET_STDDEV_RGB, rtol=1e-3):
        deviation = variance.ravel()
    return Preprocessing(
        mean_rgb=tuple(float(value) * 255 for value in mean.ravel()),
        stddev_rgb=tuple(float(value) * 255 for value in deviation),
    )
