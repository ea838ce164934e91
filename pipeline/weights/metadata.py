"""What is known of weights besides their values: network, classes, preprocessing, origin; and its JSON form.

Size, crop and normalisation travel with weights in this form and in every exported format. Metadata that exist are right in
themselves: `Metadata` refuses unknown variants and impossible values, and reading JSON refuses missing, unknown and mistyped
fields.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pipeline.data.preprocessing import EvalTransform, eval_transform
from pipeline.errors import ConfigError, DataError
from pipeline.model.scaling import architecture
from pipeline.weights.names import Tensor, tensor_table

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # [efficientnet_builder.py]
IMAGENET_STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)  # [efficientnet_builder.py]

# Whether weights *and* BN statistics are averages; a foreign file may not say.
EMA, RAW, UNSTATED = "ema", "raw", "unstated"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before the network sees it; fields as in `config.data`, so `eval_transform` reads both."""

    eval_crop: str = "padding"
    eval_crop_padding: int = 32
    eval_crop_fraction: float = 0.875
    resize: str = "bicubic_tf1"
    apply_exif_orientation: bool = False
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN_RGB
    stddev_rgb: tuple[float, float, float] = IMAGENET_STDDEV_RGB

    @classmethod
    def of_config(cls, data_config: ConfigDict) -> "Preprocessing":
        """Takes the fields over from `config.data`."""
        return cls(**{field.name: _frozen(data_config[field.name]) for field in dataclasses.fields(cls)})

    @property
    def crop_rule(self) -> str:
        """The crop in words."""
        return {
            "padding": f"centre, size / (size + {self.eval_crop_padding}) of the shorter side",
            "fraction": f"centre, {self.eval_crop_fraction:g} of the shorter side",
            "none": "none, the whole picture",
        }[self.eval_crop]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is known of weights besides their values.

    Attributes:
      variant: A row of `python -m pipeline.model`.
      num_classes: Outputs of the classifier.
      class_names: One for each output; empty when nobody gave names.
      image_size: Side of the pictures, in pixels, that the weights are meant for.
      preprocessing: Crop, resize and normalisation.
      kind: "ema" (parameters and BN statistics are moving averages), "raw", or "unstated".
      source: The run or file that they come from.
      step: Of the run; None when unknown.
      bn_epsilon: Added to variances.
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
        architecture(self.variant)
        _require(self.num_classes >= 2, f"num_classes is {self.num_classes}: a classifier has two or more")
        _require(self.image_size >= 8, f"image_size is {self.image_size}: pictures of at least 8 pixels are needed")
        _require(self.kind in (EMA, RAW, UNSTATED), f"kind is {self.kind!r}, which is none of ema, raw, unstated")
        _require(
            not self.class_names or len(self.class_names) == self.num_classes,
            f"there are {len(self.class_names)} class names for {self.num_classes} classes",
        )
        _require(
            len(self.preprocessing.mean_rgb) == len(self.preprocessing.stddev_rgb) == 3,
            "mean_rgb and stddev_rgb have three values each",
        )
        _require(min(self.preprocessing.stddev_rgb) > 0, f"stddev_rgb is {self.preprocessing.stddev_rgb}")
        self.eval_transform()

    @property
    def table(self) -> tuple[Tensor, ...]:
        """The tensors that belong to the network."""
        return tensor_table(architecture(self.variant), self.num_classes)

    def eval_transform(self) -> EvalTransform:
        """Returns the preprocessing of pictures; raises `ConfigError` when a field has an unknown value."""
        return eval_transform(self.preprocessing, self.image_size)

    def name_of(self, label: int) -> str:
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self) -> dict[str, Any]:
        """Returns the metadata as JSON; `from_json` is the inverse."""
        return {"format": 1, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Any, where: str) -> "Metadata":
        """Reads what `to_json` wrote.

        Raises:
          DataError: something is missing, unknown or of another type; `where` names the file.
        """
        try:
            _require(isinstance(content, Mapping), "it is not a JSON object")
            fields = dict(content)
            _require(fields.pop("format", None) == 1, "it has no 'format': 1")
            fields["preprocessing"] = _typed(Preprocessing, fields.get("preprocessing"))
            return _typed(cls, fields)
        except (ConfigError, DataError) as error:
            raise DataError(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _typed(cls: type, content: Any):
    """Builds a dataclass from JSON that has exactly its fields, each of the annotated type."""
    _require(isinstance(content, Mapping), f"{cls.__name__} is not a JSON object")
    hints = typing.get_type_hints(cls)
    values = {name: _frozen(value) for name, value in content.items()}
    wrong = [f"{name!r} is missing" for name in hints if name not in values]
    wrong += [f"{name!r} is unknown" for name in values if name not in hints]
    wrong += [
        f"{name!r} is {value!r}" for name, value in values.items() if name in hints and not _fits(value, hints[name])
    ]
    _require(not wrong, "; ".join(wrong))
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    return type(value) in (int, float) if hint is float else type(value) is hint


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(message)
