"""Which part of an image is used: crop boxes for training and for evaluation.

A crop box is `(top, left, height, width)` in pixels of the decoded image. This module draws and computes crop boxes; it
never touches pixels. Every draw comes from the generator that is passed in.
"""

import math

import numpy as np

CropBox = tuple[int, int, int, int]

ASPECT_RATIOS = (3 / 4, 4 / 3)  # width / height [preprocessing.py]
MIN_COVERED = 0.1  # the share of the image a crop box must hold [preprocessing.py]
ATTEMPTS = 10  # [preprocessing.py]


def random_crop_box(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> CropBox | None:
    """Draws the crop box of a random resized crop as TensorFlow's `sample_distorted_bounding_box` does.

    The aspect ratio is uniform (not log-uniform), then the height is uniform between the heights that give the
    smallest and the largest area (so areas are not uniform), and a crop box below `MIN_COVERED` of the image is drawn
    again. As in the original the last possible offset is never drawn. The distribution is TensorFlow's; the draws are
    not, because the random generator is another one.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        area: Smallest and largest share of the image's area.
        rng: Where the draws come from.

    Returns:
        The crop box, or None when `ATTEMPTS` draws gave none or the crop box is the whole image: the published pipeline
        then takes the evaluation crop.
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
        if covered < MIN_COVERED * height * width:
            continue
        if (box_height, box_width) == (height, width):
            return None
        top = int(rng.integers(height - box_height)) if box_height < height else 0
        left = int(rng.integers(width - box_width)) if box_width < width else 0
        return top, left, box_height, box_width
    return None


def centre_crop_box(height: int, width: int, share: float) -> CropBox:
    """Returns the square centre crop box whose side is a share of the image's shorter side.

    The side is truncated and the offsets are rounded up, as in preprocessing.py; thin images give at least one pixel.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        share: Of the shorter side; multiplied in float32, as the original does.
    """
    side = max(1, int(np.float32(share) * np.float32(min(height, width))))
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side
