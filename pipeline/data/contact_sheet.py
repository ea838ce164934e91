"""Contact sheets of an augmentation, for people: a row for each case and a column for each level or draw."""

import cv2
import numpy as np
from ml_collections import ConfigDict

from pipeline.data import preprocessing
from pipeline.data.augmentation import levels
from pipeline.data.augmentation.autoaugment import AutoAugment
from pipeline.data.preprocessing import TrainTransform

_TILE = 160  # pixels of a tile's side
_CAPTION = 18  # pixels of the line above a tile
_GAP = 4
_LEVELS = range(11)

Row = list[tuple[str, np.ndarray]]  # (caption, uint8 RGB [height, width, 3])

CASES = ("all", "train", *levels.OPERATIONS)


def sheet(data_config: ConfigDict, image_size: int, case: str, files: list[bytes]) -> np.ndarray:
    """Draws the augmentation of a configuration at levels 0 to 10, and at its own magnitude if that is larger.

    Args:
        data_config: `config.data` of `configs/recipe.py`.
        image_size: Pixels of each side in training.
        case: The name of an operation, applied to all images; "all": all operations, applied to the first image; or "train":
            the whole preprocessing.
        files: Image files.

    Returns:
        uint8 RGB `[height, width, 3]`.
    """
    transform = preprocessing.train_transform(data_config, image_size)
    if case == "train":
        return draw(training_rows(files, transform, len(_LEVELS)))
    policy = transform.augment or AutoAugment(data_config.augment_semantics)
    columns = sorted({*_LEVELS, getattr(policy, "magnitude", 10)})
    names = list(levels.OPERATIONS) if case == "all" else [case]
    images = [transform.evaluation.pixels(data) for data in (files[:1] if case == "all" else files)]
    return draw(operation_rows(images, names, columns, policy.scale))


def operation_rows(images: list[np.ndarray], names: list[str], columns: list[float], scale: levels.Scale) -> list[Row]:
    """Applies operations at levels: a row for each image and operation, the image itself first.

    Args:
        images: uint8 RGB `[size, size, 3]`, as operations take them in training.
        names: Names of `levels.OPERATIONS`.
        columns: The levels.
        scale: What a level means.
    """
    rows = []
    for image in images:
        for name in names:
            row = [("before", image)]
            for level in columns:
                after = levels.apply(name, image, level, scale, np.random.default_rng(0))
                row.append((f"{name} {level:g}", after))
            rows.append(row)
    return rows


def training_rows(files: list[bytes], transform: TrainTransform, columns: int) -> list[Row]:
    """Applies the whole training preprocessing: a row for each image file, a column for each draw."""
    rows = []
    for data in files:
        row = [("before", transform.evaluation.pixels(data))]
        row += [(f"draw {seed}", transform.pixels(data, np.random.default_rng(seed))) for seed in range(columns)]
        rows.append(row)
    return rows


def draw(rows: list[Row]) -> np.ndarray:
    """Lays out rows of captioned images; returns uint8 RGB `[height, width, 3]`."""
    columns = max(len(row) for row in rows)
    step_down, step_right = _TILE + _CAPTION + _GAP, _TILE + _GAP
    sheet = np.full((len(rows) * step_down + _GAP, columns * step_right + _GAP, 3), 255, np.uint8)
    for row_index, row in enumerate(rows):
        for column_index, (caption, image) in enumerate(row):
            top, left = _GAP + row_index * step_down, _GAP + column_index * step_right
            cv2.putText(sheet, caption, (left, top + _CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0))
            shrinks = max(image.shape[:2]) > _TILE
            tile = cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
            sheet[top + _CAPTION : top + _CAPTION + _TILE, left : left + _TILE] = tile
    return sheet
