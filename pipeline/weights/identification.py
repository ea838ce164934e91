"""From the tensors of a foreign file to `Weights`: which network they are, and how pictures have to be prepared for it.

No two variants of the family have the same tensors, so the network is found from names and shapes alone and never from a file
name. What the file does not say – normalisation, crop – comes from the user or is the published rule of the family.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipeline.errors import DataError
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture
from pipeline.weights.container import Weights, check_arrays
from pipeline.weights.metadata import UNSTATED, Metadata, Preprocessing
from pipeline.weights.names import Tensor, tensor_table

PUBLISHED = {
    "imagenet": Preprocessing(),
    "advprop": Preprocessing(mean_rgb=(127.5,) * 3, stddev_rgb=(127.5,) * 3),  # pixels in -1..1 [eval_ckpt_main.py]
    "lite": Preprocessing(
        mean_rgb=(127.0,) * 3, stddev_rgb=(128.0,) * 3, resize="bilinear"
    ),  # [efficientnet_lite_builder.py]
}


@dataclasses.dataclass(frozen=True)
class ForeignWeights:
    """What a reader found in a file.

    Attributes:
      arrays: Float32, under the names and in the layout of `dialect`.
      dialect: One of `names.DIALECTS`.
      source: The file.
      kind: "ema", "raw" or "unstated".
      variant: The network, if the file names it.
      preprocessing: If the file states it.
      image_size: In pixels, if the file states it.
      class_names: If the file has them.
    """

    arrays: dict[str, np.ndarray]
    dialect: str
    source: str
    kind: str = UNSTATED
    variant: str | None = None
    preprocessing: Preprocessing | None = None
    image_size: int | None = None
    class_names: tuple[str, ...] = ()

    def identified(self) -> Weights:
        """Returns the weights under our names.

        Raises:
          DataError: the tensors are not those of a network of the family, or not of the one that the file names.
        """
        variant, num_classes = identify(self.arrays, self.dialect, self.source, self.variant)
        family = architecture(variant).family.name
        metadata = Metadata(
            variant=variant,
            num_classes=num_classes,
            image_size=self.image_size or architecture(variant).resolution,
            class_names=self.class_names,
            preprocessing=self.preprocessing or PUBLISHED["lite" if family == "efficientnet-lite" else "imagenet"],
            kind=self.kind,
            source=self.source,
        )
        return Weights.from_dialect(metadata, self.arrays, self.dialect)


def identify(arrays: Mapping[str, np.ndarray], dialect: str, where: str, variant: str | None = None) -> tuple[str, int]:
    """Finds variant and number of classes.

    Args:
      arrays: What the file holds, under the names and in the layout of a dialect.
      dialect: One of `names.DIALECTS`.
      where: The tensors were found; for the error.
      variant: What it has to be, when somebody said so.

    Returns:
      A row of `python -m pipeline.model` and the number of outputs.

    Raises:
      DataError: the tensors are those of no network of the family, or not of `variant`; it lists what does not fit the
        nearest one.
    """
    candidates = VARIANTS if variant is None else [variant]
    best, fewest = None, None
    for name in candidates:
        table = tensor_table(architecture(name), _num_classes(arrays, name, dialect))
        mismatches = _mismatches(table, arrays, dialect)
        if fewest is None or mismatches < fewest:
            best, fewest = (name, table), mismatches
    name, table = best
    if fewest > len(table) // 2 and variant is None:
        raise DataError(
            f"{where} holds no EfficientNet: {len(arrays)} tensors, such as {', '.join(sorted(arrays)[:3])}"
        )
    check_arrays(table, arrays, dialect, f"{where}, read as {name}")
    return name, _num_classes(arrays, name, dialect)


def _num_classes(arrays: Mapping[str, np.ndarray], variant: str, dialect: str) -> int:
    """Returns the length of the classifier's bias, which is the last tensor of a table; 1000 where there is none."""
    bias = arrays.get(tensor_table(architecture(variant), 1000)[-1].foreign[dialect])
    return bias.shape[0] if bias is not None and len(bias.shape) == 1 else 1000


def _mismatches(table: tuple[Tensor, ...], arrays: Mapping[str, np.ndarray], dialect: str) -> int:
    expected = {tensor.foreign[dialect]: tensor.shape_in(dialect) for tensor in table}
    wrong = sum(name not in arrays or tuple(arrays[name].shape) != shape for name, shape in expected.items())
    return wrong + sum(name not in expected for name in arrays)
