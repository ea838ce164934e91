"""Identifies the network and the preprocessing of a foreign file's tensors.

The network is recognised by names and shapes, never by the file name. ResNet's v1 and v1.5 have the same tensors; the user
chooses, and the default is the first in the table. Preprocessing that the file does not state comes from the user, or is the
published one of the family.
"""

import dataclasses
import functools
from collections.abc import Mapping

from pipeline.errors import DataError
from pipeline.host.printable import printable
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture
from pipeline.model.specs import Family
from pipeline.weights.container import Weights
from pipeline.weights.conventions import conventions_of
from pipeline.weights.metadata import UNSTATED, Metadata, Preprocessing
from pipeline.weights.names import tensor_table
from pipeline.weights.stored import EXACT_IN_FLOAT32, StoredTensor, StoredTensors, check_tensors

PUBLISHED = {
    "imagenet": Preprocessing(),
    "advprop": Preprocessing(mean_rgb=(127.5,) * 3, stddev_rgb=(127.5,) * 3),  # pixels in -1..1 [eval_ckpt_main.py]
    "lite": Preprocessing(
        mean_rgb=(127.0,) * 3, stddev_rgb=(128.0,) * 3, resize="bilinear"
    ),  # [efficientnet_lite_builder.py]
    "v2": Preprocessing(
        eval_crop="none", mean_rgb=(128.0,) * 3, stddev_rgb=(128.0,) * 3, resize="bilinear"
    ),  # [google/automl, efficientnetv2/preprocessing.py]
    "inception": Preprocessing(
        eval_crop="fraction", mean_rgb=(127.5,) * 3, stddev_rgb=(127.5,) * 3, resize="bilinear"
    ),  # [keras.applications.mobilenet.preprocess_input]
    "caffe": Preprocessing(
        eval_crop="fraction", mean_rgb=(123.68, 116.779, 103.939), stddev_rgb=(1.0,) * 3, resize="bilinear"
    ),  # [keras.applications.resnet.preprocess_input]
}
_V2_WHOLE_IMAGE_PIXELS = 320  # V2 is evaluated on the whole image from this size on, and on a central crop below


@dataclasses.dataclass(frozen=True)
class ForeignWeights:
    """The contents of a foreign file.

    Attributes:
      tensors: Tensors with the names and layouts of `convention`; none of their numbers is read yet.
      convention: One of `names.CONVENTIONS`.
      kind: "ema", "raw" or "unstated".
      variant: The network, if the file names it.
      preprocessing: The preprocessing, if the file states it.
      image_size: The image size in pixels, if the file states it.
      class_names: The class names, if the file has them.
      step: The step of the run, if the file states it.
      stated_in: The file with these statements, for errors, if it is not the file of the tensors.
    """

    tensors: StoredTensors
    convention: str
    kind: str = UNSTATED
    variant: str | None = None
    preprocessing: Preprocessing | None = None
    image_size: int | None = None
    class_names: tuple[str, ...] = ()
    step: int | None = None
    stated_in: str = ""

    def identified(self) -> Weights:
        """Reads the weights and returns them under our names.

        Raises:
          DataError: the tensors are not those of a known network, or not of the one that the file names.
        """
        where = self.tensors.where
        variant, num_classes = identify(self.tensors.tensors, self.convention, where, self.variant)
        family = architecture(variant).family
        try:
            metadata = Metadata(
                variant=variant,
                num_classes=num_classes,
                image_size=self.image_size or architecture(variant).resolution,
                class_names=self.class_names,
                preprocessing=self.preprocessing
                or _published(family, self.image_size or architecture(variant).resolution),
                kind=self.kind,
                source=where,
                step=self.step,
                bn_epsilon=family.bn_epsilon,
            )
        except DataError as error:
            raise DataError(f"{self.stated_in or where}: {error}") from error
        arrays = self.tensors.read(metadata.table, self.convention, f", read as {variant}")
        return Weights(metadata, arrays, where)


def identify(
    tensors: Mapping[str, StoredTensor], convention: str, where: str, variant: str | None = None
) -> tuple[str, int]:
    """Finds the variant and the number of classes.

    Args:
      tensors: The file's tensors, with the names and layouts of a naming convention.
      convention: One of `names.CONVENTIONS`.
      where: The file, for the error.
      variant: The required variant, if one is given.

    Returns:
      A key of `VARIANTS` and the number of outputs.

    Raises:
      DataError: the tensors are not those of a known network, or not of `variant`. The message lists how they differ from the
        nearest one.
    """
    named = VARIANTS if variant is None else [variant]
    candidates = [
        name for name in named if convention in conventions_of(architecture(name)) or convention == "keras_h5"
    ]
    if not candidates:
        raise DataError(f"{where} cannot be {variant}: no file of this kind has that network")
    counts = {name: _num_classes(name, tensors, convention) for name in candidates}
    fewest = {name: _mismatches(_shapes(name, counts[name], convention), tensors) for name in candidates}
    name = min(fewest, key=fewest.__getitem__)
    table = tensor_table(architecture(name), counts[name])
    if fewest[name] > len(table) // 2 and variant is None:
        examples = ", ".join(printable(found) for found in sorted(tensors)[:3])
        raise DataError(f"{where} holds no network that is known here: {len(tensors)} tensors, such as {examples}")
    check_tensors(table, tensors, convention, f"{where}, read as {name}", EXACT_IN_FLOAT32)
    return name, counts[name]


def _published(family: Family, image_size: int) -> Preprocessing:
    """Returns the preprocessing of a family's published weights at an image size in pixels."""
    preprocessing = PUBLISHED[family.preprocessing]
    if family.preprocessing == "v2" and image_size < _V2_WHOLE_IMAGE_PIXELS:
        return dataclasses.replace(preprocessing, eval_crop="padding")
    return preprocessing


@functools.lru_cache(maxsize=256)
def _shapes(variant: str, num_classes: int, convention: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's tensors by name; the classifier's bias comes last."""
    table = tensor_table(architecture(variant), num_classes)
    return {tensor.foreign[convention]: tensor.shape_in(convention) for tensor in table}


def _num_classes(variant: str, tensors: Mapping[str, StoredTensor], convention: str) -> int:
    """Returns the length of the classifier's bias; 1000 if there is none."""
    bias = tensors.get(next(reversed(_shapes(variant, 1000, convention))))
    return bias.shape[0] if bias is not None and len(bias.shape) == 1 else 1000


def _mismatches(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, StoredTensor]) -> int:
    wrong = sum(name not in tensors or tuple(tensors[name].shape) != shape for name, shape in expected.items())
    return wrong + sum(name not in expected for name in tensors)
