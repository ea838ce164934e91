"""Decoding: right pixels from every format, and no crash, hang or large allocation from any bytes."""

import contextlib
import io
import pathlib
import struct
import subprocess
import sys

import hostile_images
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline.data.decoding import images
from pipeline.data.decoding.headers import DamagedImageError, read_header

SOUND = hostile_images.sound_images()
TENSORFLOW_READS = [name for name in SOUND if name not in ("webp_alpha", "webp_animated", "bmp_1", "bmp_P")]


@pytest.mark.parametrize("name", TENSORFLOW_READS)
def test_equals_tensorflow(name):
    expected = tf.io.decode_image(SOUND[name], channels=3, expand_animations=False).numpy()
    decoded = images.decode(SOUND[name])
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("name", [name for name in SOUND if not name.startswith(("jpeg", "png_16bit_grey"))])
def test_equals_pillow(name):
    expected = np.asarray(Image.open(io.BytesIO(SOUND[name])).convert("RGB"))
    assert np.array_equal(images.decode(SOUND[name]), expected)


@pytest.mark.parametrize(("name", "data"), hostile_images.odd_sizes().items())
def test_one_row_or_column(name, data):
    decoded = images.decode(data)
    assert decoded.shape == (*read_header_size(data), 3)
    assert np.abs(decoded.astype(int) - (200, 100, 50)).max() <= 4


def read_header_size(data):
    return Image.open(io.BytesIO(data)).size[::-1]


@pytest.mark.parametrize("name", SOUND)
def test_header_tells_the_size(name):
    header = read_header(SOUND[name])
    assert (header.height, header.width) == (90, 131)
    assert name.startswith(header.format)


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("name", SOUND)
def test_cut_off_files_are_damaged(name, tenth):
    data = SOUND[name]
    with pytest.raises(DamagedImageError):
        images.decode(data[: len(data) * tenth // 10])


@pytest.mark.parametrize("name", [name for name in SOUND if name.startswith("jpeg")])
def test_a_crop_has_the_pixels_of_the_whole(name):
    whole = images.decode(SOUND[name])
    rng = np.random.default_rng(0)
    for _ in range(30):
        top, left = int(rng.integers(90)), int(rng.integers(131))
        box = top, left, 1 + int(rng.integers(90 - top)), 1 + int(rng.integers(131 - left))
        part = images.decode_crop(SOUND[name], lambda height, width, box=box: box)
        assert np.array_equal(part, whole[top : top + box[2], left : left + box[3]])


def test_a_crop_of_wrong_bits_has_the_wrong_pixels_of_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(SOUND["jpeg_420"])
        for position in rng.integers(len(data) // 3, len(data) - 2, size=rng.integers(1, 4)):
            data[position] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(DamagedImageError):
            whole = images.decode(bytes(data))
            part = images.decode_crop(bytes(data), lambda height, width: (20, 30, 41, 52))
            assert np.array_equal(part, whole[20:61, 30:82])


def test_rows_below_the_crop_are_not_decoded():
    data = bytearray(SOUND["jpeg_444"])
    scan = read_header(bytes(data)).scan_offset
    middle = scan + (len(data) - scan) // 2
    data[middle:-2] = bytes(len(data) - 2 - middle)  # all that follows is wrong
    top = images.decode_crop(bytes(data), lambda height, width: (0, 0, 16, width))
    assert np.array_equal(top, images.decode(SOUND["jpeg_444"])[:16])


def test_orientation_is_applied_only_on_demand():
    """Tag 6 asks for a quarter turn clockwise."""
    assert images.decode(SOUND["jpeg_exif"]).shape == (90, 131, 3)
    turned = images.decode(SOUND["jpeg_exif"], apply_exif_orientation=True)
    upright = images.decode(SOUND["jpeg_exif"])
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).mean() < 3  # another DCT
    part = images.decode_crop(SOUND["jpeg_exif"], lambda height, width: (0, 0, height, width // 2), True)
    assert np.array_equal(part, turned[:, :45])


@pytest.mark.parametrize(("name", "data"), hostile_images.rubbish().items())
def test_rubbish_is_damaged(name, data):
    with pytest.raises(DamagedImageError):
        images.decode(data)


@pytest.mark.parametrize("name", ["jpeg_420", "jpeg_444_progressive", "png_RGB", "webp", "gif", "bmp_RGB"])
def test_flipped_bits_never_crash(name):
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(SOUND[name])
        for position in rng.integers(len(data), size=rng.integers(1, 20)):
            data[position] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(DamagedImageError):
            assert images.decode(bytes(data)).shape[2] == 3


def test_bombs_are_refused_before_memory_is_taken():
    """In a process of its own, whose peak memory is its own."""
    program = """
import resource, hostile_images
from pipeline.data.decoding import images
from pipeline.data.decoding.headers import DamagedImageError
images.decode(hostile_images.sound_images()["png_RGB"])
bombs = hostile_images.bombs()
assert len(bombs) == 12, len(bombs)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in bombs.items():
    try:
        images.decode(data)
    except DamagedImageError as error:
        assert "expected 1 to" in str(error), (name, error)
    else:
        raise AssertionError(name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    here = pathlib.Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=here.parents[2],
        env={"PYTHONPATH": f"{here}:{here.parents[2]}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 10_000, "KiB"


def test_scans_without_end_are_refused():
    """A progressive JPEG may repeat scans that change nothing; neither its size nor its number of pixels tells."""
    data = SOUND["jpeg_444_progressive"]
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 100_000 + data[-2:]
    with pytest.raises(DamagedImageError, match=r"in 100\d+ scans; expected at most"):
        images.decode(bomb)
    assert images.MAX_SCANNED_PIXELS > 10 * 6000 * 4000  # a camera's image in as many scans as usual


@pytest.mark.parametrize(("name", "least_bits"), [("jpeg_420", 2), ("jpeg_grey", 2), ("jpeg_444_progressive", 1)])
def test_a_size_that_the_bytes_cannot_hold_is_refused(name, least_bits):
    """Each block of 64 pixels takes a DC code, and in a sequential JPEG one for the end of the block."""
    data = bytearray(SOUND[name])
    offset = read_header(SOUND[name]).height_offset
    height = 8 * len(data) * 64 // least_bits // 8000 + 1
    assert height * 8000 < images.MAX_PIXELS // 10
    struct.pack_into(">HH", data, offset, height + 8, 8000)
    with pytest.raises(DamagedImageError, match="cannot hold"):
        images.decode(bytes(data))
    struct.pack_into(">HH", data, offset, height - 8, 8000)
    assert images.decode(bytes(data)).shape == (height - 8, 8000, 3)  # the decoder fills in what is missing


def test_flat_images_take_more_bytes_than_the_least():
    """One code for all, of one bit each, is the shortest that there is."""
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        buffer = io.BytesIO()
        Image.new("L", (2000, 2000), 128).save(buffer, "JPEG", optimize=True, **options)
        assert images.decode(buffer.getvalue()).shape == (2000, 2000, 3)


def test_the_largest_progressive_jpeg_stays_under_a_gibibyte():
    """The decoder keeps 16-bit coefficients of three components beside the pixels."""
    assert images.MAX_PIXELS * (3 * 2 + 3) < 1 << 30
