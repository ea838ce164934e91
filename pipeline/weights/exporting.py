"""Exports: each format with its writer, its runtime, and the allowed difference from the trained network.

An export is written into a temporary folder, opened there by the format's own runtime, and compared on real images. Only then
does it appear under its name. Nothing is written if a runtime is missing.
"""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline.errors import ConfigError, TrainingError
from pipeline.weights import (
    directory,
    keras_network,
    official,
    onnx_graph,
    opening,
    savedmodel,
    stablehlo,
    tflite,
    timm,
    timm_runtime,
)
from pipeline.weights.container import Weights
from pipeline.weights.forward import Forward, make_forward

EXACT = 1e-4  # the largest difference of logits, relative to the largest logit
BORDERLINE = 0.1  # of the difference that rounding makes: a number half-way between two roundings may go to either
_KERAS_FILE = "model.keras"


@dataclasses.dataclass(frozen=True)
class Opened:
    """An exported file, opened by its own runtime.

    Attributes:
      name: The name of the file.
      forward: Its forward pass.
      limit: The allowed difference from the trained network's logits; None: only measure it.
      reference_weights: Maps the weights to those that the file states, which are then the reference. The limit grows by
        `BORDERLINE` of the difference that this makes.
    """

    name: str
    forward: Forward
    limit: float | None
    reference_weights: Callable[[Weights], Weights] | None = None


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
      write: Writes weights into a folder; takes images for calibration.
      open: Opens the written files.
      modules: The Python modules that it needs.
    """

    write: Callable[[Weights, pathlib.Path, np.ndarray], None]
    open: Callable[[pathlib.Path], Iterator[Opened]]
    modules: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference between an exported file and the trained network.

    Attributes:
      name: The name of the file.
      relative: The largest difference of logits, divided by the largest logit.
      same_class: The share of images with the same most probable class.
      limit: The allowed value of `relative`; None: it is only measured.
    """

    name: str
    relative: float
    same_class: float
    limit: float | None

    def __str__(self) -> str:
        limit = "no limit" if self.limit is None else f"limit {self.limit:.2g}"
        return f"{self.name}: largest difference {self.relative:.2g} of the largest logit ({limit}), " + (
            f"same class for {self.same_class:.0%} of the images"
        )


def export(
    weights: Weights, name: str, folder: pathlib.Path, images: np.ndarray, calibration: np.ndarray
) -> list[Difference]:
    """Writes one format and compares it.

    Args:
      weights: The weights to export.
      name: A key of `FORMATS`.
      folder: The folder of the export.
      images: uint8 `[images, size, size, 3]`, to compare on.
      calibration: The same, for quantisation.

    Returns:
      The differences, one for each file.

    Raises:
      ConfigError: the format does not support the network, or `folder` is not empty.
      TrainingError: the export computes something else; it is removed.
    """
    expected = make_forward(weights)(images)
    differences = []
    with directory.appearing(folder) as temporary:
        FORMATS[name].write(weights, temporary, calibration)
        directory.write_metadata(weights.metadata, temporary)
        for opened in FORMATS[name].open(temporary):
            wanted, limit = expected, opened.limit
            if opened.reference_weights:
                wanted = make_forward(opened.reference_weights(weights))(images)
                if limit is not None:
                    limit += BORDERLINE * compare(opened.name, expected, wanted, None).relative
            difference = compare(opened.name, wanted, opened.forward(images), limit)
            if limit is not None and not difference.relative <= limit:
                raise TrainingError(f"{name} was not exported, because it computes something else. {difference}")
            differences.append(difference)
    return differences


def compare(name: str, expected: np.ndarray, found: np.ndarray, limit: float | None) -> Difference:
    """Compares logits `[images, classes]`; values that are not finite differ infinitely."""
    relative = np.abs(found - expected).max() / np.abs(expected).max()
    return Difference(
        name=name,
        relative=float(relative) if np.isfinite(relative) else float("inf"),
        same_class=float(np.mean(found.argmax(axis=-1) == expected.argmax(axis=-1))),
        limit=limit,
    )


def check_formats(names: Sequence[str]) -> None:
    """Refuses unknown formats and formats without their runtime, before anything is written.

    Raises:
      ConfigError: the message lists the formats, or what to install.
    """
    if not names:
        raise ConfigError(f"--format is missing: name one or several of {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"--format={name} is not one of {', '.join(FORMATS)}")
        missing = [module for module in FORMATS[name].modules if importlib.util.find_spec(module) is None]
        if missing:
            raise ConfigError(
                f"--format={name} needs the Python package(s) {', '.join(missing)}: pip install -r requirements.txt"
            )
        if name == "timm":
            timm_runtime.check()


def _reopens(file: str) -> Callable:
    """Opens a format that this project reads itself: the weights read back run through our own network."""

    def opened(folder: pathlib.Path) -> Iterator[Opened]:
        yield Opened(file, make_forward(opening.open_weights(str(folder))), EXACT)

    return opened


def _write_keras(weights: Weights, folder: pathlib.Path, calibration: np.ndarray) -> None:
    del calibration
    keras_network.build_keras(weights).save(folder / _KERAS_FILE)


def _open_keras(folder: pathlib.Path) -> Iterator[Opened]:
    import keras

    model = keras.saving.load_model(folder / _KERAS_FILE, compile=False)
    yield Opened(_KERAS_FILE, lambda images: model.predict(images.astype(np.float32), verbose=0), EXACT)


def _open_tflite(folder: pathlib.Path) -> Iterator[Opened]:
    yield Opened(tflite.FLOAT32, tflite.load(folder / tflite.FLOAT32), EXACT)
    rounded = f"{tflite.FLOAT16}, beside the network with its weights rounded"
    yield Opened(rounded, tflite.load(folder / tflite.FLOAT16), EXACT, reference_weights=tflite.rounded_to_half)
    # The cost of rounding depends on the network and has no known limit, so it is only measured.
    for name in (tflite.FLOAT16, tflite.DYNAMIC_INT8, tflite.CALIBRATED_INT8):
        yield Opened(name, tflite.load(folder / name), None)


def _opens(file: str, load: Callable[[pathlib.Path], Forward]) -> Callable:
    def opened(folder: pathlib.Path) -> Iterator[Opened]:
        yield Opened(file, load(folder), EXACT)

    return opened


def _plain(write: Callable[[Weights, pathlib.Path], None]) -> Callable:
    return lambda weights, folder, calibration: write(weights, folder)


FORMATS = {
    "weights": Format(_plain(directory.write), _reopens(directory.TENSORS)),
    "timm": Format(_plain(timm.write), _opens(timm.TENSORS, timm_runtime.load)),
    "keras": Format(_write_keras, _open_keras, ("tensorflow", "keras")),
    "savedmodel": Format(_plain(savedmodel.write), _opens("saved_model.pb", savedmodel.load), ("tensorflow", "keras")),
    "tflite": Format(tflite.write, _open_tflite, ("tensorflow", "keras")),
    "stablehlo": Format(_plain(stablehlo.write), _opens(stablehlo.MODEL, stablehlo.load)),
    "onnx": Format(_plain(onnx_graph.write), _opens(onnx_graph.MODEL, onnx_graph.load), ("onnx", "onnxruntime")),
    "official": Format(_plain(official.write), _reopens(official.CHECKPOINT), ("tensorflow",)),
}
