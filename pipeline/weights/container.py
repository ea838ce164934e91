"""Weights in memory: the arrays of one network under our names, with their metadata.

Every reader returns a `Weights` and every writer takes one. A `Weights` is always complete: it has exactly the tensors of its
network, each float32, finite and of the right shape, and no variance is negative. Arrays are never changed in place.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from pipeline.errors import ConfigError, DataError
from pipeline.host.printable import printable
from pipeline.weights.metadata import Metadata
from pipeline.weights.names import OURS
from pipeline.weights.stored import check_tensors


@dataclasses.dataclass(frozen=True)
class Weights:
    """The arrays of a network and their metadata.

    Attributes:
      metadata: The metadata.
      arrays: float32 arrays by the paths of `Metadata.table`.
      where: The file they were read from, for errors; `metadata.source` is their origin.
    """

    metadata: Metadata
    arrays: dict[str, np.ndarray]
    where: str = dataclasses.field(default="", compare=False)

    def __post_init__(self):
        where = self.where or self.metadata.source
        object.__setattr__(self, "where", where)
        check_tensors(self.metadata.table, self.arrays, OURS, where)
        for path, array in self.arrays.items():
            if not np.isfinite(array).all():
                raise DataError(f"{where}: {path} holds values that are not finite numbers")
            if path.endswith("/var") and array.size and array.min() < 0:
                raise DataError(f"{where}: {path} holds the variance {array.min():g}, and no variance is negative")

    def variables(self) -> dict[str, dict]:
        """Returns the arrays as the model's collections "params" and "batch_stats"."""
        return traverse_util.unflatten_dict(self.arrays, sep="/")

    def describe(self) -> str:
        """Returns the network, the origin and the preprocessing as one line."""
        metadata, preprocessing = self.metadata, self.metadata.preprocessing
        kinds = {
            "ema": "EMA weights with EMA BatchNorm statistics",
            "raw": "raw weights with raw BatchNorm statistics",
            "unstated": "weights (the file does not say whether averages)",
        }
        step = "" if metadata.step is None else f", step {metadata.step:,}"
        return (
            f"{metadata.variant}, {metadata.num_classes} classes, {kinds[metadata.kind]} of "
            f"{printable(metadata.source)}{step}; {metadata.image_size} pixels, crop: {preprocessing.crop_rule}, "
            f"resize: {preprocessing.resize}, mean {_rounded(preprocessing.mean_rgb)}, "
            f"deviation {_rounded(preprocessing.stddev_rgb)}"
        )

    def in_convention(self, convention: str) -> dict[str, np.ndarray]:
        """Returns the arrays under the names and in the layout of a naming convention."""
        return {
            tensor.foreign[convention]: tensor.to_convention(self.arrays[tensor.path], convention)
            for tensor in self.metadata.table
        }

    @classmethod
    def from_variables(cls, metadata: Metadata, variables: Mapping[str, Any]) -> "Weights":
        """Takes the collections "params" and "batch_stats"; raises `DataError` if they do not fit the metadata."""
        flat = traverse_util.flatten_dict(variables, sep="/")
        return cls(metadata, {path: np.asarray(array) for path, array in flat.items()})

    @classmethod
    def from_convention(cls, metadata: Metadata, arrays: Mapping[str, np.ndarray], convention: str) -> "Weights":
        """Takes arrays under the names and in the layout of a naming convention.

        Raises:
          DataError: tensors are missing, unexpected or misshapen; the message lists them.
        """
        check_tensors(metadata.table, arrays, convention, metadata.source)
        ours = {
            tensor.path: tensor.from_convention(arrays[tensor.foreign[convention]], convention)
            for tensor in metadata.table
        }
        return cls(metadata, ours)

    def without_background(self) -> "Weights":
        """Returns the weights without output 0, the background class of the authors' 1001-class networks.

        Raises:
          ConfigError: there are not 1001 classes.
        """
        if self.metadata.num_classes != 1001:
            raise ConfigError(f"{self.where} has {self.metadata.num_classes} classes, no background to drop")
        arrays = dict(self.arrays)
        for tensor in self.metadata.table:
            if tensor.is_classifier:
                arrays[tensor.path] = np.ascontiguousarray(arrays[tensor.path][..., 1:])
        names = self.metadata.class_names[1:]
        return Weights(dataclasses.replace(self.metadata, num_classes=1000, class_names=names), arrays, self.where)


def _rounded(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.6g}" for value in values)
