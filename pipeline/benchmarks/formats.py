"""Measures the latency of the exported formats, and the paper's table 4: ResNet-152, B1 and B7 in one runtime.

Every format is written once into a temporary folder and measured in its own processes, so runtimes do not compete for threads.
"""

import pathlib
import statistics
import tempfile

import numpy as np

from pipeline.benchmarks.latency import Latency, on_cores
from pipeline.benchmarks.paper import TABLE_4
from pipeline.host.announcing import announce
from pipeline.model.tables import align
from pipeline.weights import directory, exporting, photographs
from pipeline.weights.container import Weights
from pipeline.weights.metadata import Metadata

RUNTIMES = ("stablehlo", "onnx", "savedmodel", "tflite")
BATCHES = (1, 32)
TABLE_4_RUNTIMES = {"jax": "JAX, ours", "onnx": "ONNX Runtime", "tflite": "TFLite, XNNPACK"}
_RUNS = 3
_LARGE = ("b7",)  # measured in one run, and with few rounds
_LARGE_ROUNDS = 3

Measured = dict[tuple[str, int, int | None], Latency]  # key: file, batch, number of cores (None: all)


def measure(weights: Weights, rounds: int) -> Measured:
    """Measures the forward pass of each exported file, for each batch, on one core and on all.

    Args:
      weights: The weights to export.
      rounds: Number of timed calls of each file.
    """
    calibration = photographs.calibration_crops(weights.metadata.image_size)
    measured = {}
    with tempfile.TemporaryDirectory(prefix="latency-benchmark.") as temporary:
        folder = pathlib.Path(temporary) / "network"
        for name in ("weights", *RUNTIMES):
            announce(f"Exporting {name}", "10 to 60 seconds")
            _write(weights, name, folder, calibration)
        for runtime in RUNTIMES:
            for batch in BATCHES:
                for cores in (1, None):
                    found = on_cores(cores, [runtime, str(rounds), str(batch), str(folder)])
                    for name, latency in found.items():
                        measured[name.partition("/")[2], batch, cores] = latency
    return measured


def report(measured: Measured) -> str:
    """Returns a table with a line for each file, in milliseconds an image, sorted by the time of one image on all cores."""
    columns = [(batch, cores) for batch in BATCHES for cores in (1, None)]
    rows = [["file", *(f"batch {batch}, {'all cores' if cores is None else '1 core'}" for batch, cores in columns)]]
    for name in sorted({file for file, _, _ in measured}, key=lambda file: measured[file, 1, None].wall):
        cells = []
        for batch, cores in columns:
            latency = measured[name, batch, cores]
            cells.append(f"{1e3 * latency.wall / batch:.2f} ({1e3 * latency.cpu / batch:.2f})")
        rows.append([name, *cells])
    return align(rows)


def measure_table_4(rounds: int) -> dict[str, list[dict[str, Latency]]]:
    """Measures the networks of table 4 for one image on one core, untrained, in three runs of each runtime.

    Returns:
      For each runtime the runs, each with a `Latency` by variant; the large network is only in the first run.
    """
    measured = {}
    with tempfile.TemporaryDirectory(prefix="latency-benchmark.") as temporary:
        for variant in TABLE_4:
            announce(f"Building and exporting {variant}", "a minute; some for B7")
            weights = untrained(variant)
            for name in ("weights", "onnx", "tflite"):
                _write(weights, name, pathlib.Path(temporary) / variant, np.zeros((0, 1, 1, 3), np.uint8))
        small = [f"{temporary}/{variant}" for variant in TABLE_4 if variant not in _LARGE]
        large = [f"{temporary}/{variant}" for variant in _LARGE]
        for runtime in TABLE_4_RUNTIMES:
            announce(f"Measuring in {TABLE_4_RUNTIMES[runtime]}", "a minute")
            runs = [on_cores(1, [runtime, str(rounds), "1", *small]) for _ in range(_RUNS)]
            runs[0] |= on_cores(1, [runtime, str(_LARGE_ROUNDS), "1", *large])
            measured[runtime] = [{name.partition("/")[0]: each for name, each in run.items()} for run in runs]
    return measured


def report_table_4(measured: dict[str, list[dict[str, Latency]]]) -> str:
    """Returns table 4 with medians over the runs and each run's ratio of ResNet-152 to B1, by clock and by CPU time."""
    rows = [["runtime", "", "resnet152", "b1", "b7", "resnet152 / b1", "median"]]
    for runtime, runs in measured.items():
        for kind in ("wall", "cpu"):
            times = {
                variant: statistics.median(getattr(run[variant], kind) for run in runs if variant in run)
                for variant in TABLE_4
            }
            ratios = [getattr(run["resnet152"], kind) / getattr(run["b1"], kind) for run in runs]
            rows.append(
                [
                    TABLE_4_RUNTIMES[runtime],
                    {"wall": "clock", "cpu": "CPU time"}[kind],
                    *(f"{1e3 * times[variant]:.1f}" for variant in TABLE_4),
                    ", ".join(f"{ratio:.2f}" for ratio in ratios),
                    f"{statistics.median(ratios):.2f}",
                ]
            )
    published = [f"{1e3 * seconds:g}" for seconds in TABLE_4.values()]
    rows.append(["published, Xeon E5-2690", "clock", *published, "", f"{TABLE_4['resnet152'] / TABLE_4['b1']:.1f}"])
    return align(rows)


def untrained(variant: str) -> Weights:
    """Returns random weights whose activations stay in range, so that computing takes as long as with trained ones."""
    metadata = Metadata(variant, 1000, _resolution(variant), source="untrained")
    rng = np.random.default_rng(0)

    def values(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith(("/scale", "/var")):
            return np.ones(shape, np.float32)
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(1 / np.prod(shape[:-1])))

    return Weights(metadata, {tensor.path: values(tensor.path, tensor.shape) for tensor in metadata.table})


def _resolution(variant: str) -> int:
    from pipeline.model.scaling import architecture

    return architecture(variant).resolution


def _write(weights: Weights, name: str, folder: pathlib.Path, calibration: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    with directory.appearing(folder / name) as temporary:
        exporting.FORMATS[name].write(weights, temporary, calibration)
