"""Decodes crops of JPEGs with wrong bytes, by a fixed seed: python mutated_jpegs.py COUNT SEED.

Run in a process of its own, in which numba checks every index into an array. Prints how many were decoded, how many of them by
their index, and how many were refused; any exception but `DamagedImageError` ends it, and so does a call that takes too long.
"""

import collections
import io
import sys
import time

import cv2
import hostile_images
import numpy as np
from PIL import Image

from pipeline.data.decoding import images, jpeg_crops
from pipeline.data.decoding.headers import DamagedImageError
from pipeline.data.preparation.jpeg_index import add_index

MAX_CPU_SECONDS = 2.0


def originals() -> list[bytes]:
    """Indexed ones of every kind that gets an index, what gets none, and two of a photograph's size."""
    files = [add_index(data) for name, data in hostile_images.sound_images().items() if name.startswith("jpeg")]
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    large = Image.fromarray(cv2.resize(noise, (960, 720), interpolation=cv2.INTER_CUBIC))
    for progressive in (False, True):
        buffer = io.BytesIO()
        large.save(buffer, "JPEG", quality=95, optimize=True, progressive=progressive)
        files.append(add_index(buffer.getvalue()))
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes up to six bytes: anywhere, or in the header and index, or near a marker; sometimes cuts or repeats a part."""
    changed = bytearray(data)
    markers = [place for place in range(len(data) - 1) if data[place] == 255 and data[place + 1] not in (0, 255)]
    for _ in range(rng.integers(1, 7)):
        nearby = markers[rng.integers(len(markers))] + int(rng.integers(24))
        place = (int(rng.integers(len(data))), int(rng.integers(min(1000, len(data)))), nearby)[rng.integers(3)]
        if place < len(data):
            changed[place] = (int(rng.integers(256)), changed[place] ^ 1 << int(rng.integers(8)), 255, 0)[
                rng.integers(4)
            ]
    if rng.integers(10) == 0:
        first, last = sorted(int(place) for place in rng.integers(len(data), size=2))
        changed[first:last] = changed[first:last] * int(rng.integers(3))
    return bytes(changed)


def main(count: int, seed: int) -> None:
    rng, outcomes, files = np.random.default_rng(seed), collections.Counter(), originals()

    def box(height: int, width: int) -> tuple[int, int, int, int]:
        top, left = int(rng.integers(height)), int(rng.integers(width))
        return top, left, 1 + int(rng.integers(height - top)), 1 + int(rng.integers(width - left))

    def decode_crop(*arguments):
        found = by_index(*arguments)
        outcomes["by index"] += found is not None
        return found

    by_index, jpeg_crops.decode_crop = jpeg_crops.decode_crop, decode_crop
    for data in files:
        images.decode_crop(data, lambda *_: (20, 30, 41, 52))  # compiles what is called below
    outcomes.clear()
    for number in range(count):
        data = mutated(files[number % len(files)], rng)
        start = time.process_time()
        try:
            pixels = images.decode_crop(data, box)
            assert pixels.dtype == np.uint8, pixels.dtype
            assert pixels.size > 0, pixels.shape
            outcomes["decoded"] += 1
        except DamagedImageError:
            outcomes["damaged"] += 1
        assert (took := time.process_time() - start) < MAX_CPU_SECONDS, (number, seed, took)
    print(dict(outcomes))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
