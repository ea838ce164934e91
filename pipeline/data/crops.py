"""Which part of a picture is used: windows for training and for evaluation.

A window is `(top, left, height, width)` in pixels of the decoded picture. This module draws and computes windows; it
never touches pixels. Every draw comes from the generator that is passed in.
"""

import math

import numpy as np

Window = tuple[int, int, int, int]

ASPECT_RATIOS = (3 / 4, 4 / 3)  # width / height [preprocessing.py]
ATTEMPTS = 10  # [preprocessing.py]


def random_window(
    height: int, width: int, area: tuple[float, float], rng: np.random.Generator, covers: float = 0.1
) -> Window | None:
    """Draws the window of a random resized crop as TensorFlow's `sample_distorted_bounding_box` does.

    The aspect ratio is uniform (not log-uniform), then the height is uniform between the heights that give the
    smallest and the largest area (so areas are not uniform), and a window below `covers` of the image is drawn
    again. As in the original the last possible offset is never drawn. The distribution is TensorFlow's; the draws are
    not, because the random generator is another one.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        area: Smallest and largest share of the picture's area.
        rng: Where the draws come from.
        covers: The smallest share of the image that a window may hold [preprocessing.py].

    Returns:
        The window, or None when `ATTEMPTS` draws gave none or the window is the whole picture: the published pipeline
        then takes the evaluation crop.
    """
    min_area, max_area = area[0] * height * width, area[1] * height * width
    for _ in range(ATTEMPTS):
        aspect_ratio = ASPECT_RATIOS[0] + rng.random() * (ASPECT_RATIOS[1] - ASPECT_RATIOS[0])
        largest = min(round(math.sqrt(max_area / aspect_ratio)), int((width + 0.5 - 1e-7) / aspect_ratio), height)
        window_height = min(round(math.sqrt(min_area / aspect_ratio)), largest)
        window_height += int(rng.integers(largest - window_height + 1))
        window_width = round(window_height * aspect_ratio)
        if window_height * window_width < min_area:
            window_height += 1
            window_width = round(window_height * aspect_ratio)
        if window_height * window_width > max_area:
            window_height -= 1
            window_width = round(window_height * aspect_ratio)
        covered = window_height * window_width
        if not (min_area <= covered <= max_area and 0 < window_width <= width and 0 < window_height <= height):
            continue
        if covered < covers * height * width:
            continue
        if (window_height, window_width) == (height, width):
            return None
        top = int(rng.integers(height - window_height)) if window_height < height else 0
        left = int(rng.integers(width - window_width)) if window_width < width else 0
        return top, left, window_height, window_width
    return None


def centre_window(height: int, width: int, share: float) -> Window:
    """Returns the square centre window whose side is a share of the picture's shorter side.

    The side is truncated and the offsets are rounded up, as in preprocessing.py; thin pictures give at least one pixel.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        share: Of the shorter side; multiplied in float32, as the original does.
    """
    side = max(1, int(np.float32(share) * np.float32(min(height, width))))
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side
