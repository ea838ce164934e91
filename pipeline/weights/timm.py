"""timm's format: the folder layout of the Hugging Face hub, `model.safetensors` with `config.json`.

The architecture is always `tf_efficientnet_…` or `tf_efficientnetv2_…`, which pad as TensorFlow does. The models without
"tf_" take the same tensors and silently compute something else. The preprocessing is stated completely, never left to timm's
defaults.
"""

import contextlib
import pathlib
from collections.abc import Generator
from typing import Any

from pipeline.errors import ConfigError, DataError
from pipeline.host.printable import printable
from pipeline.model.families import VARIANTS
from pipeline.model.scaling import architecture
from pipeline.weights.container import Weights
from pipeline.weights.identification import ForeignWeights
from pipeline.weights.metadata import Metadata, Preprocessing
from pipeline.weights.plain_files import read_json, write_json
from pipeline.weights.stored import StoredTensors
from pipeline.weights.tensor_files import open_tensors, write_tensors

TENSORS = "model.safetensors"
CONFIG = "config.json"
_PREFIX, _V2_PREFIX = "tf_efficientnet_", "tf_efficientnetv2_"
_INTERPOLATIONS = {
    "bicubic_tf1": "bicubic",
    "bicubic": "bicubic",
    "bicubic_antialias": "bicubic",
    "bilinear": "bilinear",
}


def architecture_name(metadata: Metadata) -> str:
    """Returns timm's name of a network; raises `ConfigError` if timm does not have it."""
    variant = metadata.variant
    if variant not in VARIANTS or not architecture(variant).family.name.startswith("efficientnet"):
        raise ConfigError(f"timm has no network {variant}: its format is for EfficientNet, EfficientNet-Lite and V2")
    return _V2_PREFIX + variant.removeprefix("v2_") if variant.startswith("v2_") else _PREFIX + variant


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes both files into an existing folder; raises `ConfigError` if timm does not have the network."""
    config = model_config(weights.metadata)
    write_tensors(folder / TENSORS, weights.in_convention("timm"), {"format": "pt"})
    write_json(folder / CONFIG, config, indent=2)


def model_config(metadata: Metadata) -> dict[str, Any]:
    """Returns the content of `config.json`."""
    network, size, preprocessing = architecture(metadata.variant), metadata.image_size, metadata.preprocessing
    share = metadata.eval_transform().crop_share
    config: dict[str, Any] = {
        "architecture": architecture_name(metadata),
        "num_classes": metadata.num_classes,
        "num_features": network.num_features,
        "global_pool": "avg",
        "pretrained_cfg": {
            "tag": metadata.kind,
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": False,
            "interpolation": _INTERPOLATIONS[preprocessing.resize],
            "crop_pct": 1.0 if share is None else share,
            "crop_mode": "squash" if share is None else "center",
            "mean": [value / 255 for value in preprocessing.mean_rgb],
            "std": [value / 255 for value in preprocessing.stddev_rgb],
            "num_classes": metadata.num_classes,
            "pool_size": [-(-size // 32)] * 2,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        },
    }
    if metadata.class_names:
        config["label_names"] = list(metadata.class_names)
    return config


@contextlib.contextmanager
def open_folder(folder: pathlib.Path, ignore_preprocessing: bool = False) -> Generator[ForeignWeights]:
    """Lists the tensors of a folder in the hub's layout, whose file stays open inside the block.

    Args:
      folder: The folder of `config.json` and `model.safetensors`.
      ignore_preprocessing: Whether to ignore the preprocessing of `config.json`.

    Raises:
      DataError: a file is missing or damaged, the architecture does not pad as TensorFlow does, or the preprocessing is not
        supported here.
    """
    path = folder / CONFIG
    config = _of_type(read_json(path), dict, f"{path} is not a JSON object")
    name = _of_type(config.get("architecture"), str, f"{path}: the architecture is {config.get('architecture')!r:.100}")
    variant = name.split(".")[0].replace(_V2_PREFIX, "v2_").replace(_PREFIX, "")
    if not name.startswith((_PREFIX, _V2_PREFIX)) or variant not in VARIANTS:
        raise DataError(
            f"{path}: the architecture {printable(name)} is unknown or does not pad as TensorFlow does; known are "
            f"{_PREFIX}b0 to {_PREFIX}lite4 and the {_V2_PREFIX} networks"
        )
    stated = _of_type(config.get("pretrained_cfg", config), dict, f"{path}: pretrained_cfg is not a JSON object")
    preprocessing = None if ignore_preprocessing else _preprocessing(stated, path)
    image_size, class_names = _image_size(stated, path), _class_names(config.get("label_names"), path)
    with open_tensors(folder / TENSORS) as tensors:
        yield ForeignWeights(
            tensors,
            convention="timm",
            variant=variant,
            preprocessing=preprocessing,
            image_size=image_size,
            class_names=class_names,
            stated_in=str(path),
        )


def from_state_dict(tensors: StoredTensors) -> ForeignWeights:
    """Takes tensors with the names of timm, or of lukemelas's package, which begin with an underscore."""
    return ForeignWeights(tensors, convention="lukemelas" if any(name.startswith("_") for name in tensors) else "timm")


def _image_size(stated: dict[str, Any], path: pathlib.Path) -> int | None:
    if "input_size" not in stated:
        return None
    size = stated["input_size"]
    whole = isinstance(size, list) and len(size) == 3 and all(type(value) is int for value in size)
    if not whole or size[0] != 3 or size[1] != size[2]:
        raise DataError(f"{path}: input_size is {size!r:.100}; expected [3, size, size], whole numbers")
    return size[2]


def _class_names(stated: Any, path: pathlib.Path) -> tuple[str, ...]:
    names = [] if stated is None else stated
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: label_names is not a list of names: leave it out, and give --class_names FILE")
    return tuple(names)


def _preprocessing(stated: dict[str, Any], path: pathlib.Path) -> Preprocessing | None:
    """Returns the preprocessing of a `pretrained_cfg`; None if it states none."""
    needed = ("mean", "std", "crop_pct", "interpolation")
    missing = [name for name in needed if name not in stated]
    if len(missing) == len(needed):
        return None
    instead = "give --preprocessing to say how images are prepared"
    if missing:
        raise DataError(f"{path} states the preprocessing, but not {', '.join(missing)}: {instead}")
    interpolation, crop_mode = stated["interpolation"], stated.get("crop_mode", "center")
    if interpolation not in ("bicubic", "bilinear"):
        raise DataError(
            f"{path}: interpolation is {interpolation!r:.100}; bicubic and bilinear are known here: {instead}"
        )
    if crop_mode not in ("center", "squash"):
        raise DataError(f"{path}: crop_mode is {crop_mode!r:.100}; center and squash are known here: {instead}")
    numbers = [stated["crop_pct"]]
    for name in ("mean", "std"):
        if not isinstance(stated[name], list) or len(stated[name]) != 3:
            raise DataError(f"{path}: {name} is {stated[name]!r:.100}; expected three numbers: {instead}")
        numbers += stated[name]
    if not all(type(value) in (int, float) and abs(value) < 1e6 for value in numbers):
        raise DataError(f"{path}: mean, std and crop_pct are {numbers!r:.200}; expected numbers: {instead}")
    return Preprocessing(
        eval_crop="none" if crop_mode == "squash" else "fraction",
        eval_crop_fraction=float(stated["crop_pct"]),
        resize="bilinear" if interpolation == "bilinear" else "bicubic_antialias",
        mean_rgb=tuple(255.0 * value for value in stated["mean"]),
        stddev_rgb=tuple(255.0 * value for value in stated["std"]),
    )


def _of_type(value: Any, kind: type, message: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(message)
    return value
