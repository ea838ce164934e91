"""Synthetic photographs in 1,000 classes, to try a pod, its network and its disks before ImageNet is there.

They are JPEGs that cost a host as much as ImageNet's. Most have 500 by 375 pixels, 110 kB on average, and each has its own
Huffman tables. Most have quality 96 and no chroma subsampling, as in a survey of ImageNet [terryalanunlimited.com,
Compression in the ImageNet Dataset, 2021]. The survey gives no shares, so the shares here are guesses, also those of grey and
progressive images. Each class has its own colours, so that a loss falls. An image is a pure function of (split, number) and
is made when it is read.
"""

import functools
import zlib

import numpy as np

from pipeline.data.preparation.shards import Split

NAME = "fake_imagenet"
NUM_CLASSES = 1000
CLASS_NAMES = tuple(f"class_{label:04d}" for label in range(NUM_CLASSES))
DESCRIPTION = "Synthetic JPEGs like ImageNet's in 1,000 classes: for trying machines, not for training."
_IMAGE_BYTES = 110_000
# The properties of a hundred images.
_SIZES = {
    (375, 500): 62,
    (500, 375): 18,
    (333, 500): 12,
    (500, 500): 4,
    (480, 640): 2,
    (300, 400): 2,
}  # height and width
_QUALITIES = {96: 75, 92: 8, 90: 6, 85: 5, 75: 4, 99: 2}
_SUBSAMPLINGS = {"444": 80, "420": 15, "422": 5}
_PROGRESSIVE, _GREY = 1, 2
_STRENGTH = -0.8  # logarithm of the texture's strength
_OCTAVES = 4  # of the texture: each is half as fine as the one before, and equally strong


def fake_imagenet_splits(train_examples: int, validation_examples: int) -> tuple[Split, Split]:
    """Returns the splits "train" and "validation", in which the classes alternate."""
    return _split("train", train_examples), _split("validation", validation_examples)


def _split(name: str, size: int) -> Split:
    return Split(
        name=name,
        keys=[f"{name}_{index:08d}.jpg" for index in range(size)],
        labels=[index % NUM_CLASSES for index in range(size)],
        read=functools.partial(_image, name),
        image_bytes=_IMAGE_BYTES,
    )


def _image(split: str, index: int) -> bytes:
    """Returns a JPEG: the class's colour patches, moved and dimmed, under a texture like a photograph's."""
    import cv2

    class_rng = np.random.default_rng(index % NUM_CLASSES)
    rng = np.random.default_rng([zlib.crc32(split.encode()), index])
    height, width = _drawn(_SIZES, rng)
    patches = (class_rng.uniform(0, 255, (5, 6, 3)) * rng.uniform(0.6, 1, 3)).astype(np.uint8)
    patches = np.roll(patches, rng.integers(0, 6, 2), axis=(0, 1))
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    texture = np.zeros((height, width), np.float32)
    for octave in range(_OCTAVES):
        shape = -(-height >> octave), -(-width >> octave)
        noise = np.frombuffer(rng.bytes(shape[0] * shape[1]), np.uint8).reshape(shape)
        texture += cv2.resize(cv2.blur(noise, (3, 3)).astype(np.float32) - 127.5, (width, height))
    strength = rng.lognormal(_STRENGTH, 0.5)
    image = np.clip(image + strength * texture[..., None], 0, 255).astype(np.uint8)
    if rng.integers(100) < _GREY:
        image = image[..., 0]
    options = {
        cv2.IMWRITE_JPEG_QUALITY: _drawn(_QUALITIES, rng),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{_drawn(_SUBSAMPLINGS, rng)}"),
        cv2.IMWRITE_JPEG_PROGRESSIVE: int(rng.integers(100) < _PROGRESSIVE),
        cv2.IMWRITE_JPEG_OPTIMIZE: 1,
    }
    return cv2.imencode(".jpg", image, [number for option in options.items() for number in option])[1].tobytes()


def _drawn(hundred: dict, rng: np.random.Generator):
    """Returns the choice for one of a hundred, given the number of each choice."""
    left = rng.integers(100)
    for thing, count in hundred.items():
        left -= count
        if left < 0:
            return thing
    raise ValueError(f"{hundred} are not a hundred")
