"""Weights in memory: the arrays of one network under our names, together with their metadata.

Every reader returns a `Weights`, every writer takes one. Invariant: a `Weights` that exists is complete: exactly the tensors
of its network, each float32, of the right shape and finite, and no variance negative. Arrays are never changed in place.
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
    """A network's numbers.

    Attributes:
      metadata: What is known of them.
      arrays: From the paths of `Metadata.table` to float32 arrays.
      where: They were read from, for errors; `metadata.source` is where they once came from.
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
        """Returns the arrays as the collections "params" and "batch_stats" that the model takes."""
        return traverse_util.unflatten_dict(self.arrays, sep="/")

    def describe(self) -> str:
        """Returns what they are and how images are prepared, on one line."""
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
        """Takes the collections "params" and "batch_stats"; raises `DataError` when they do not fit the metadata."""
        flat = traverse_util.flatten_dict(variables, sep="/")
        return cls(metadata, {path: np.asarray(array) for path, array in flat.items()})

    @classmethod
    def from_convention(cls, metadata: Metadata, arrays: Mapping[str, np.ndarray], convention: str) -> "Weights":
        """Takes arrays under the names and in the layout of a naming convention.

        Raises:
          DataError: tensors are missing, unexpected or misshapen; it lists them.
        """
        check_tensors(metadata.table, arrays, convention, metadata.source)
        ours = {
            tensor.path: tensor.from_convention(arrays[tensor.foreign[convention]], convention)
            for tensor in metadata.table
        }
        return cls(metadata, ours)

    def without_background(self) -> "Weights":
        """Returns the weights without output 0, which 1001-class networks of the authors call the background.

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
