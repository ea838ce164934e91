"""Crop boxes for training and evaluation.

A crop box is `(top, left, height, width)` in pixels of the decoded image. This module computes boxes and touches no pixels. All
random draws come from the generator that is passed in.
"""

import math

import numpy as np

CropBox = tuple[int, int, int, int]

ASPECT_RATIOS = (3 / 4, 4 / 3)  # width / height [preprocessing.py]
ATTEMPTS = 10  # [preprocessing.py]


def random_crop_box(
    height: int, width: int, area: tuple[float, float], rng: np.random.Generator, covers: float = 0.1
) -> CropBox | None:
    """Draws the crop box of a random resized crop as TensorFlow's `sample_distorted_bounding_box` does.

    The aspect ratio r is uniform in `ASPECT_RATIOS`, not log-uniform. Then the height is uniform between sqrt(A_min / r) and
    sqrt(A_max / r), where A is the area in pixels, so areas are not uniform. A box that covers less than `covers` of the
    image is drawn again. As in the original, the last possible offset is never drawn. The distribution is TensorFlow's; the
    draws differ, because the generator does.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        area: Smallest and largest share of the image's area.
        rng: The random generator.
        covers: The least share of the image that a box covers [preprocessing.py].

    Returns:
        The crop box. None if `ATTEMPTS` draws found none or the box is the whole image; the published pipeline then takes the
        evaluation crop.
    """
    min_area, max_area = area[0] * height * width, area[1] * height * width
    for _ in range(ATTEMPTS):
        aspect_ratio = ASPECT_RATIOS[0] + rng.random() * (ASPECT_RATIOS[1] - ASPECT_RATIOS[0])
        largest = min(round(math.sqrt(max_area / aspect_ratio)), int((width + 0.5 - 1e-7) / aspect_ratio), height)
        box_height = min(round(math.sqrt(min_area / aspect_ratio)), largest)
        box_height += int(rng.integers(largest - box_height + 1))
        box_width = round(box_height * aspect_ratio)
        if box_height * box_width < min_area:
            box_height += 1
            box_width = round(box_height * aspect_ratio)
        if box_height * box_width > max_area:
            box_height -= 1
            box_width = round(box_height * aspect_ratio)
        covered = box_height * box_width
        if not (min_area <= covered <= max_area and 0 < box_width <= width and 0 < box_height <= height):
            continue
        if covered < covers * height * width:
            continue
        if (box_height, box_width) == (height, width):
            return None
        top = int(rng.integers(height - box_height)) if box_height < height else 0
        left = int(rng.integers(width - box_width)) if box_width < width else 0
        return top, left, box_height, box_width
    return None


def centre_crop_box(height: int, width: int, share: float) -> CropBox:
    """Returns the square centre crop box whose side is a share of the image's shorter side.

    The side is truncated and the offsets are rounded up, as in preprocessing.py. The side is at least one pixel.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        share: Side of the box over the shorter side; multiplied in float32, as in the original.
    """
    side = max(1, int(np.float32(share) * np.float32(min(height, width))))
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side
