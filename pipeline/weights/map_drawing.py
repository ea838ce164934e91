"""Draws class-activation maps over their images.

A map is enlarged to the image and coloured from its least to its greatest value. So colours compare places of one map, not two
maps. The image is shown as the network sees it, after cropping and resizing.
"""

from collections.abc import Sequence

import cv2
import numpy as np

_SHARE = 0.5  # weight of the colours over the image
_PANEL_INCHES = 2.6
_MIN_SIDE = 224  # pixels; smaller images are enlarged


def overlay(image: np.ndarray, activation_map: np.ndarray) -> np.ndarray:
    """Returns an image with a map over it.

    Args:
      image: uint8 RGB `[height, width, 3]`.
      activation_map: float `[rows, columns]`.

    Returns:
      uint8 RGB, of the image's size or, for a small image, of a multiple of it.
    """
    enlarged = _enlarged(image)
    height, width = enlarged.shape[:2]
    least, greatest = float(activation_map.min()), float(activation_map.max())
    shares = (activation_map - least) / max(greatest - least, np.finfo(np.float32).tiny)
    shares = cv2.resize(shares.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.rint(255 * shares).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.rint((1 - _SHARE) * enlarged + _SHARE * colours).astype(np.uint8)


def panels(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Draws rows of images with titles.

    Args:
      rows: Titles and uint8 RGB images; all rows have the same length.

    Returns:
      uint8 RGB `[height, width, 3]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(rows[0])
    drawing = Figure(
        figsize=(_PANEL_INCHES * columns, (_PANEL_INCHES + 0.4) * len(rows)), layout="constrained", dpi=120
    )
    canvas = FigureCanvasAgg(drawing)
    grid = drawing.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(grid, rows):
        for axes, (title, image) in zip(line, row):
            axes.imshow(_enlarged(image))
            axes.set_title(title.replace("$", r"\$"), fontsize=9)
            axes.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Repeats the pixels of a small image."""
    times = -(-_MIN_SIDE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
