"""Synthetic photographs with 1,000 classes, to try a pod, its network and its disks before ImageNet is there.

Owns the pictures: JPEGs of ImageNet's usual 500 by 375 pixels and about 100 kB, which cost a host what real ones cost. Each
class has its own colours, so that a loss falls. A picture is a pure function of (split, number) and is made when it is read.
"""

import functools
import zlib

import numpy as np

from pipeline.data.preparation.shards import Split

NAME = "fake_imagenet"
NUM_CLASSES = 1000
CLASS_NAMES = tuple(f"class_{label:04d}" for label in range(NUM_CLASSES))
DESCRIPTION = "Synthetic JPEGs of 500 by 375 pixels in 1,000 classes: for trying machines, not for training."
_HEIGHT, _WIDTH = 375, 500
_JPEG_QUALITY = 94
_PICTURE_BYTES = 100_000


def fake_imagenet_splits(train_examples: int, validation_examples: int) -> tuple[Split, Split]:
    """Returns the splits "train" and "validation"; in each the classes take turns."""
    return _split("train", train_examples), _split("validation", validation_examples)


def _split(name: str, size: int) -> Split:
    return Split(
        name=name,
        keys=[f"{name}_{index:08d}.jpg" for index in range(size)],
        labels=[index % NUM_CLASSES for index in range(size)],
        read=functools.partial(_picture, name),
        picture_bytes=_PICTURE_BYTES,
    )


def _picture(split: str, index: int) -> bytes:
    """Returns a JPEG: the colour patches of the class, moved and dimmed, under grain like a camera's."""
    import cv2

    class_rng = np.random.default_rng(index % NUM_CLASSES)
    rng = np.random.default_rng([zlib.crc32(split.encode()), index])
    patches = (class_rng.uniform(0, 255, (5, 6, 3)) * rng.uniform(0.6, 1, 3)).astype(np.uint8)
    patches = np.roll(patches, rng.integers(0, 6, 2), axis=(0, 1))
    picture = cv2.resize(patches, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = np.frombuffer(rng.bytes(_HEIGHT * _WIDTH), np.uint8).reshape(_HEIGHT, _WIDTH)
    grain = cv2.blur(noise, (3, 3))
    picture = cv2.addWeighted(picture, 1, cv2.merge([grain] * 3), 0.7, -0.7 * 128)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
