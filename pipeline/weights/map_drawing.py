"""Class-activation maps drawn over the image they are of.

A map is enlarged to the image and coloured from its least to its greatest value: colours compare places of one map, never two
maps. What is shown of the image is what the network saw, after crop and resizing.
"""

from collections.abc import Sequence

import cv2
import numpy as np

_SHARE = 0.5  # of the colours in the mixture
_PANEL_INCHES = 2.6
_LEAST_SIDE = 224  # to which small images are enlarged, in pixels


def overlay(image: np.ndarray, activation_map: np.ndarray) -> np.ndarray:
    """Returns an image with a map over it.

    Args:
      image: Uint8 RGB `[height, width, 3]`.
      activation_map: Float `[rows, columns]`.

    Returns:
      uint8 RGB, of the image's size or, for a small image, a multiple of it.
    """
    enlarged = _enlarged(image)
    height, width = enlarged.shape[:2]
    least, greatest = float(activation_map.min()), float(activation_map.max())
    shares = (activation_map - least) / max(greatest - least, np.finfo(np.float32).tiny)
    shares = cv2.resize(shares.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.uint8(np.rint(255 * shares)), cv2.COLORMAP_JET)[..., ::-1]
    return np.uint8(np.rint((1 - _SHARE) * enlarged + _SHARE * colours))


def panels(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Draws images with a title each, in rows.

    Args:
      rows: Of titles and uint8 RGB images; all of one length.

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
    times = -(-_LEAST_SIDE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
