"""Measures latencies: python -m pipeline.benchmarks.latency_process CORES RUNTIME ROUNDS BATCH FOLDER …

CORES are numbers separated by commas, RUNTIME is a key of `RUNTIMES`, and each FOLDER has weights and their exports. The
process prints one line of JSON: the time of a batch for each folder and file. It sets its cores before it imports anything
that starts threads, because runtimes count the cores when they are loaded.
"""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np

Named = Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]


def _jax(folder: pathlib.Path, cores: int) -> Named:
    from pipeline.weights import directory
    from pipeline.weights.forward import make_forward

    yield "jax", make_forward(directory.read(folder / "weights"))


def _stablehlo(folder: pathlib.Path, cores: int) -> Named:
    from pipeline.weights import stablehlo

    yield stablehlo.MODEL, stablehlo.load(folder / "stablehlo")


def _onnx(folder: pathlib.Path, cores: int) -> Named:
    from pipeline.weights import onnx_graph

    yield onnx_graph.MODEL, onnx_graph.load(folder / "onnx", threads=cores)


def _savedmodel(folder: pathlib.Path, cores: int) -> Named:
    from pipeline.weights import savedmodel

    yield "savedmodel", savedmodel.load(folder / "savedmodel")


def _tflite(folder: pathlib.Path, cores: int) -> Named:
    from pipeline.weights import tflite

    for path in sorted((folder / "tflite").glob("*.tflite")):
        yield path.name, tflite.load(path, threads=cores)


RUNTIMES = {"jax": _jax, "stablehlo": _stablehlo, "onnx": _onnx, "savedmodel": _savedmodel, "tflite": _tflite}


def main(cores: str, runtime: str, rounds: str, batch: str, *folders: str) -> None:
    """Measures the latencies and prints them."""
    numbers = {int(core) for core in cores.split(",")}
    os.sched_setaffinity(0, numbers)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    from pipeline.benchmarks import latency
    from pipeline.weights import directory

    forwards, images = {}, {}
    for folder in map(pathlib.Path, folders):
        size = directory.read(folder / "weights").metadata.image_size
        for name, forward in RUNTIMES[runtime](folder, len(numbers)):
            key = f"{folder.name}/{name}"
            forwards[key] = forward
            images[key] = np.random.default_rng(0).integers(0, 256, (int(batch), size, size, 3), np.uint8)
    measured = latency.in_turns(forwards, images, int(rounds))
    print(json.dumps({name: dataclasses.asdict(each) for name, each in measured.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
