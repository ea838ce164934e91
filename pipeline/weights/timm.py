"""timm's format: the folder layout of the Hugging Face hub, `model.safetensors` with `config.json`.

The architecture is always `tf_efficientnet_…`, which pads as TensorFlow does; its twin `efficientnet_…` takes the same tensors
and silently computes something else. What timm needs to prepare pictures is written in full, never left to its defaults.
"""

import json
import pathlib
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.model.scaling import architecture
from pipeline.weights.container import Weights
from pipeline.weights.identification import ForeignWeights
from pipeline.weights.metadata import Metadata, Preprocessing
from pipeline.weights.tensor_files import read_tensors, write_tensors

TENSORS = "model.safetensors"
CONFIG = "config.json"
_PREFIX = "tf_efficientnet_"
_INTERPOLATIONS = {
    "bicubic_tf1": "bicubic",
    "bicubic": "bicubic",
    "bicubic_antialias": "bicubic",
    "bilinear": "bilinear",
}


def architecture_name(metadata: Metadata) -> str:
    """Returns timm's name of a network; raises `ConfigError` when timm does not have it."""
    if not architecture(metadata.variant).family.name.startswith("efficientnet"):
        raise ConfigError(f"timm has no network {metadata.variant}: its format is for B0 to B8, L2 and Lite0 to Lite4")
    return _PREFIX + metadata.variant


def write(weights: Weights, folder: pathlib.Path) -> None:
    """Writes both files into a folder that exists; raises `ConfigError` when timm does not have the network."""
    config = model_config(weights.metadata)
    write_tensors(folder / TENSORS, weights.in_dialect("timm"), {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def model_config(metadata: Metadata) -> dict[str, Any]:
    """Returns the content of `config.json`."""
    network, size, preprocessing = architecture(metadata.variant), metadata.image_size, metadata.preprocessing
    share = metadata.eval_transform().crop_share
    config = {
        "architecture": architecture_name(metadata),
        "num_classes": metadata.num_classes,
        "num_features": network.head_filters,
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


def read_folder(folder: pathlib.Path) -> ForeignWeights:
    """Reads a folder of the hub's layout.

    Raises:
      DataError: a file is missing or damaged, or the architecture is not one that pads as TensorFlow does.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
        name, stated = config["architecture"], config.get("pretrained_cfg", {})
        if not name.startswith(_PREFIX):
            raise DataError(f"{path}: the architecture {name} does not pad as TensorFlow does; {_PREFIX}… are read")
        return ForeignWeights(
            arrays=read_tensors(folder / TENSORS),
            dialect="timm",
            source=str(folder),
            variant=name.removeprefix(_PREFIX).split(".")[0],
            preprocessing=_preprocessing(stated),
            image_size=stated["input_size"][-1] if "input_size" in stated else None,
            class_names=tuple(config.get("label_names", ())),
        )
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def from_state_dict(arrays: dict[str, np.ndarray], source: str) -> ForeignWeights:
    """Takes bare tensors under timm's names or those of lukemelas's package, which begin with an underscore."""
    dialect = "lukemelas" if any(name.startswith("_") for name in arrays) else "timm"
    return ForeignWeights(arrays=arrays, dialect=dialect, source=source)


def _preprocessing(stated: dict[str, Any]) -> Preprocessing | None:
    """Returns what a `pretrained_cfg` says of pictures; None when it leaves out a part."""
    if not {"mean", "std", "crop_pct", "interpolation"} <= set(stated):
        return None
    return Preprocessing(
        eval_crop="none" if stated.get("crop_mode") == "squash" else "fraction",
        eval_crop_fraction=float(stated["crop_pct"]),
        resize="bilinear" if stated["interpolation"] == "bilinear" else "bicubic_antialias",
        mean_rgb=tuple(255.0 * value for value in stated["mean"]),
        stddev_rgb=tuple(255.0 * value for value in stated["std"]),
    )
