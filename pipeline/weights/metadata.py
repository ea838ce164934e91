"""The metadata of weights (network, classes, preprocessing, origin) and its JSON form.

Every exported format carries it. `Metadata` rejects unknown variants, values of wrong types and values out of range. Reading
JSON also rejects missing and unknown fields. Every rejection is a `DataError`.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pipeline.data.preprocessing import EvalTransform, eval_transform
from pipeline.data.resizing import METHODS
from pipeline.errors import ConfigError, DataError
from pipeline.host.printable import printable
from pipeline.model.scaling import architecture
from pipeline.weights.names import Tensor, tensor_table

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # [efficientnet_builder.py]
IMAGENET_STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)  # [efficientnet_builder.py]

# Whether both the parameters and the BatchNorm statistics are moving averages. Files of other projects may not say so.
EMA, RAW, UNSTATED = "ema", "raw", "unstated"

PIXELS = "RGB, 0 to 255"  # the order of the channels, and the unit of means and deviations, in every format
CROPS = ("padding", "fraction", "none")
LARGEST_IMAGE_SIZE = 4096  # B8 is trained at 672 pixels, L2 at 800
_LISTED = 12  # an error names at most this many fields


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of images for evaluation. The fields are those of `config.data`, so `eval_transform` takes either.

    Attributes:
      eval_crop: The square centre crop: "padding", "fraction", or "none" for the whole image.
      eval_crop_padding: With "padding", the crop's side is size / (size + eval_crop_padding) of the shorter side, for a size in
        pixels of the network's input.
      eval_crop_fraction: With "fraction", the crop's side as a fraction of the shorter side.
      resize: The interpolation method, one of `resizing.METHODS`.
      apply_exif_orientation: Whether to rotate the image as its EXIF data say.
      mean_rgb: Subtracted from pixels of 0 to 255.
      stddev_rgb: Divides the difference.
    """

    eval_crop: str = "padding"
    eval_crop_padding: int = 32
    eval_crop_fraction: float = 0.875
    resize: str = "bicubic_tf1"
    apply_exif_orientation: bool = False
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN_RGB
    stddev_rgb: tuple[float, float, float] = IMAGENET_STDDEV_RGB

    @classmethod
    def of_config(cls, data_config: ConfigDict) -> "Preprocessing":
        """Copies the fields from `config.data`."""
        return cls(**{field.name: _frozen(data_config[field.name]) for field in dataclasses.fields(cls)})

    def check(self) -> None:
        """Raises `DataError` if a value is out of range."""
        for name, choices in {"eval_crop": CROPS, "resize": METHODS}.items():
            value = getattr(self, name)
            _require(value in choices, f"{name} is {value!r:.100}, which is none of {', '.join(choices)}")
        _require(
            0 <= self.eval_crop_padding <= 10_000, f"eval_crop_padding is {self.eval_crop_padding}, not 0 to 10,000"
        )
        _require(
            1e-6 <= self.eval_crop_fraction <= 1,
            f"eval_crop_fraction is {self.eval_crop_fraction}; expected a fraction above 0, up to 1",
        )
        mean, deviation = self.mean_rgb, self.stddev_rgb
        _require(len(mean) == len(deviation) == 3, "mean_rgb and stddev_rgb must have three values each")
        _require(all(abs(value) <= 1000 for value in mean), f"mean_rgb is {mean}; expected pixel values, 0 to 255")
        _require(
            all(1e-3 <= value <= 1e4 for value in deviation),
            f"stddev_rgb is {deviation}; expected deviations of pixel values 0 to 255",
        )

    @property
    def crop_rule(self) -> str:
        """The crop, described for users."""
        return {
            "padding": f"centre, size / (size + {self.eval_crop_padding}) of the shorter side",
            "fraction": f"centre, {self.eval_crop_fraction:g} of the shorter side",
            "none": "none, the whole image",
        }[self.eval_crop]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The metadata of weights.

    Attributes:
      variant: The name of the network: a row of `python -m pipeline.model`, or a scaled variant; see `model/variants.py`.
      num_classes: Number of classifier outputs, at least 2.
      image_size: Side of the square network input, in pixels, for which the weights are meant.
      class_names: A name for each output, in their order; empty if there are no names.
      preprocessing: Crop, resize and normalisation.
      kind: "ema" (parameters and BatchNorm statistics are moving averages), "raw" (neither is), or "unstated".
      source: The run or file that the weights come from.
      step: The training step of the weights; None if unknown.
      bn_epsilon: Added to BatchNorm's variances.

    Raises:
      DataError: A field has a wrong type, or a value is unknown or out of range.
    """

    variant: str
    num_classes: int
    image_size: int
    class_names: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    kind: str = UNSTATED
    source: str = ""
    step: int | None = None
    bn_epsilon: float = 1e-3

    def __post_init__(self):
        _check_types(self)
        _check_types(self.preprocessing)
        _check_variant(self.variant)
        _require(self.num_classes >= 2, f"num_classes is {self.num_classes}: a classifier has two or more")
        _require(
            8 <= self.image_size <= LARGEST_IMAGE_SIZE,
            f"image_size is {self.image_size}: images of 8 to {LARGEST_IMAGE_SIZE:,} pixels are possible",
        )
        _require(self.kind in (EMA, RAW, UNSTATED), f"kind is {self.kind!r:.100}, which is none of ema, raw, unstated")
        _require(self.step is None or 0 <= self.step < 1 << 62, f"step is {self.step}; expected a number of steps")
        _require(0 < self.bn_epsilon <= 1, f"bn_epsilon is {self.bn_epsilon}; expected a number above 0, up to 1")
        _require(
            not self.class_names or len(self.class_names) == self.num_classes,
            f"there are {len(self.class_names)} class names for {self.num_classes} classes",
        )
        for label, name in enumerate(self.class_names):
            _require(_is_unicode(name), f"the name of class {label}, {name!a}, is not Unicode text")
        _require(_is_unicode(self.source), f"source, {self.source!a:.100}, is not Unicode text")
        self.preprocessing.check()

    @property
    def table(self) -> tuple[Tensor, ...]:
        """The names, shapes and kinds of the network's tensors."""
        return tensor_table(architecture(self.variant), self.num_classes)

    def eval_transform(self) -> EvalTransform:
        """Returns the crop and resize for evaluation. Normalisation is not part of it."""
        return eval_transform(self.preprocessing, self.image_size)

    def name_of(self, label: int) -> str:
        """Returns the printable name of a class; its number if there are no names."""
        return printable(self.class_names[label]) if self.class_names else str(label)

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary for `json.dumps`; `from_json` is the inverse."""
        return {"format": 1, "pixels": PIXELS, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Any, where: str) -> "Metadata":
        """Builds the metadata from parsed JSON in the form of `to_json`.

        Args:
          content: The result of `json.loads`.
          where: The name of the file, which begins each error.

        Raises:
          DataError: A field is missing or unknown, has a wrong type, or has a value that `Metadata` rejects.
        """
        try:
            _require(isinstance(content, Mapping), "it is not a JSON object")
            fields = dict(content)
            _require(fields.pop("format", None) == 1, "it has no 'format': 1")
            _require(fields.pop("pixels", PIXELS) == PIXELS, f"'pixels' is not {PIXELS!r}")
            fields["preprocessing"] = _typed(Preprocessing, fields.get("preprocessing"))
            return _typed(cls, fields)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    """Returns a list as a tuple, and any other value unchanged: JSON has no tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value


def _typed(cls: type, content: Any):
    """Builds a dataclass from parsed JSON, which must have exactly its fields. The dataclass checks the types."""
    _require(isinstance(content, Mapping), f"{cls.__name__} is not a JSON object")
    hints = typing.get_type_hints(cls)
    values = {name: _frozen(value) for name, value in content.items()}
    wrong = [f"{name!r} is missing" for name in hints if name not in values]
    wrong += [f"{name!r:.100} is unknown" for name in values if name not in hints]
    _require(not wrong, "; ".join(wrong[:_LISTED]))
    return cls(**values)


def _check_types(instance: Any) -> None:
    """Raises `DataError` unless each field of a dataclass instance has the annotated type."""
    hints = typing.get_type_hints(type(instance))
    values = {name: getattr(instance, name) for name in hints}
    wrong = [f"{name!r} is {value!r:.100}" for name, value in values.items() if not _fits(value, hints[name])]
    _require(not wrong, "; ".join(wrong))


def _check_variant(variant: str) -> None:
    try:
        architecture(variant)
    except ConfigError as error:
        raise DataError(f"variant cannot be: {error}") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as in a file name of another encoding
        return False
    return True


def _fits(value: Any, hint: Any) -> bool:
    """Returns whether a value has the annotated type.

    A float field takes an int, but no number field takes a bool. A tuple's items all have the first annotated type; its length
    is not checked.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return type(value) in (int, float) if hint is float else type(value) is hint


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(message)
