"""Figures of a run: the first training batch as the model sees it, the curves, and the confusion matrix."""

from collections.abc import Sequence

import cv2
import numpy as np
from etils import epath


def write_grid(path: str, images: np.ndarray, *, columns: int = 8, scale_to: int = 96) -> None:
    """Writes uint8 RGB images `[n, height, width, 3]` row by row into one PNG; small images are enlarged."""
    scale = max(1, scale_to // images.shape[1])
    tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
    tiles = np.pad(tiles, ((0, -len(tiles) % columns), (1, 1), (1, 1), (0, 0)), constant_values=255)
    rows, height, width = len(tiles) // columns, *tiles.shape[1:3]
    grid = tiles.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * height, columns * width, 3)
    write_image(path, grid)


def write_curves(path: str, events: list[dict]) -> None:
    """Plots loss and accuracy over the epochs, from the entries of `metrics.jsonl`, into one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    for axes, name, curves in (
        (loss, "loss", {"train, with smoothing and L2": ("train", "loss"), "test, EMA": ("evaluation", "ema_loss")}),
        (
            accuracy,
            "top-1",
            {
                "train, augmented": ("train", "accuracy"),
                "test, EMA": ("evaluation", "ema_top1"),
                "test, raw": ("evaluation", "raw_top1"),
            },
        ),
    ):
        for label, (event, key) in curves.items():
            points = [(entry["epoch"], entry[key]) for entry in events if entry["event"] == event and key in entry]
            if points:
                axes.plot(*zip(*points), label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    _write_canvas(path, canvas)


def write_confusion(path: str, counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Plots counts of (label, prediction) pairs, `[classes, classes]`, into a PNG; colours are shares of the row's label.

    Up to 40 classes are labelled with their names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues"), label="share of the label's examples")
    axes.set(xlabel="prediction", ylabel="label")
    if class_names and len(class_names) <= 40:
        names = [name.replace("$", r"\$") for name in class_names]  # two of them would begin and end a formula
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    _write_canvas(path, canvas)


def write_image(path: str, image: np.ndarray) -> None:
    """Writes a uint8 RGB image `[height, width, 3]` as a PNG."""
    _write_bytes(path, cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def _write_canvas(path: str, canvas) -> None:
    canvas.draw()
    write_image(path, np.asarray(canvas.buffer_rgba())[..., :3])


def _write_bytes(path: str, content: bytes) -> None:
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
