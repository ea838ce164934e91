"""The index of JPEGs: pixels stay, crops come from it alone, and what has none or a wrong one is decoded as before."""

import contextlib
import dataclasses
import io
import itertools

import cv2
import numpy as np
import pytest
import tensorflow as tf
from making import JPEG, contents
from PIL import Image

from pipeline.data.decoding import images, jpeg_crops
from pipeline.data.decoding.headers import DamagedImageError, read_header
from pipeline.data.preparation import datasets, jpeg_index
from pipeline.data.preparation.jpeg_index import add_index
from tests.data.decoding import hostile_images

SOUND = hostile_images.sound_images()
KINDS = ("progressive", "cmyk", "ycck")
INDEXED = [name for name in SOUND if name.startswith("jpeg") and not any(kind in name for kind in KINDS)]


def boxes(height: int, width: int, count: int):
    rng = np.random.default_rng(0)
    yield 0, 0, height, width
    for _ in range(count):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        yield top, left, 1 + int(rng.integers(height - top)), 1 + int(rng.integers(width - left))


@pytest.mark.parametrize("name", INDEXED)
def test_the_pixels_stay(name):
    indexed = add_index(SOUND[name])
    header = read_header(indexed)
    assert header.index
    assert len(indexed) < 1.06 * len(SOUND[name]) + 100  # small files have larger shares of tables
    expected = tf.io.decode_jpeg(SOUND[name], channels=3).numpy()
    assert np.array_equal(tf.io.decode_jpeg(indexed, channels=3).numpy(), expected)  # for others it is a JPEG as any
    assert add_index(indexed) is indexed


@pytest.mark.parametrize("name", INDEXED)
def test_a_crop_is_cut_out_with_the_pixels_of_the_whole(name):
    data = add_index(SOUND[name])
    header, whole = read_header(data), images.decode(SOUND[name])
    for box in boxes(*whole.shape[:2], count=100):
        smaller, _ = jpeg_crops.excerpt(data, header, box)
        assert len(smaller) <= len(data)
        pixels = jpeg_crops.decode_crop(data, header, box)
        top, left, height, width = box
        assert np.array_equal(pixels, whole[top : top + height, left : left + width])


def test_of_a_small_crop_little_is_read():
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    data = add_index(cv2.imencode(".jpg", image)[1].tobytes())
    smaller, box = jpeg_crops.excerpt(data, read_header(data), (230, 310, 16, 16))
    # The crop begins within one MCU and ends within the next, away from their edges.
    assert images.decode(smaller).shape == (2 * 16, 2 * 16, 3)
    assert box == (6, 6, 16, 16)
    assert len(smaller) < 0.015 * len(data)


@pytest.mark.parametrize("subsampling", ["411", "420", "422", "440", "444"])
def test_crops_at_the_edges_of_mcus_have_the_pixels_of_the_whole(subsampling):
    """Every begin and end around the edges of MCUs, in images whose last MCUs are as narrow and as low as can be."""
    rng = np.random.default_rng(0)
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{subsampling}")
    for more in (1, 2, 3, 4, 5, 9):
        noise = rng.integers(0, 256, (48 + more, 48 + more, 3), np.uint8)
        data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1].tobytes()
        whole, indexed = images.decode(data), add_index(data)
        bounds = sorted({*(15, 16, 17, 31, 32, 33), *range(46, 48 + more)})
        for begin, end in itertools.combinations([0, *bounds, 48 + more], 2):
            for box in (
                (begin, 20, end - begin, 9),
                (20, begin, 9, end - begin),
                (begin, begin, end - begin, end - begin),
            ):
                top, left, height, width = box
                pixels = jpeg_crops.decode_crop(indexed, read_header(indexed), box)
                assert np.array_equal(pixels, whole[top : top + height, left : left + width]), (more, box)


def test_orientation_stays():
    found = images.decode(add_index(SOUND["jpeg_exif"]), apply_exif_orientation=True)
    assert np.array_equal(found, images.decode(SOUND["jpeg_exif"], apply_exif_orientation=True))


@pytest.mark.parametrize("name", [name for name in SOUND if name not in INDEXED])
def test_other_images_stay_as_they_are(name):
    assert add_index(SOUND[name]) is SOUND[name]


@pytest.mark.parametrize("name", INDEXED)
def test_damaged_images_stay_as_they_are(name):
    for tenth in range(10):
        data = SOUND[name][: len(SOUND[name]) * tenth // 10]
        assert add_index(data) is data


@pytest.mark.parametrize("height", [800, 799])
def test_the_index_of_a_large_image_fits_into_a_segment(height):
    image = np.random.default_rng(0).integers(0, 256, (height // 10, 500, 3), np.uint8)
    image = cv2.resize(image, (5000, height), interpolation=cv2.INTER_NEAREST)
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    original = cv2.imencode(".jpg", image, [*sampling, cv2.IMWRITE_JPEG_QUALITY, 99])[1].tobytes()
    data = add_index(original)
    header = read_header(data)
    assert 60_000 < header.index[1] < 65_536 < len(original) // jpeg_index._SHARE
    pixels = jpeg_crops.decode_crop(data, header, (300, 700, 333, 777))
    assert np.array_equal(pixels, images.decode(original)[300:633, 700:1477])


@pytest.mark.parametrize("quality", [75, 96])
def test_own_huffman_tables_stay_and_get_the_dc_codes_that_a_crop_may_need(quality):
    """Brighter from left to right: DC differences are small within rows and large between them, but in a crop in between."""
    noise = np.random.default_rng(0).integers(-9, 10, (256, 256))
    image = np.repeat((np.linspace(20, 235, 256) + noise)[..., None], 3, axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True)
    original = buffer.getvalue()
    data = add_index(original)
    assert read_header(data).index
    scan = read_header(original).scan_offset
    assert data.endswith(original[scan:])
    head = data[: read_header(data).scan_offset]
    assert head.count(b"\xff\xc4") == original[:scan].count(b"\xff\xc4") + 2  # both DC tables anew
    whole = images.decode(original)
    for left in range(0, 200, 7):
        pixels = jpeg_crops.decode_crop(data, read_header(data), (31, left, 120, 50))
        assert np.array_equal(pixels, whole[31:151, left : left + 50])


def test_restart_markers_of_a_camera_go():
    data = add_index(SOUND["jpeg_restarts"])
    assert read_header(SOUND["jpeg_restarts"]).restart_interval == 3
    assert read_header(data).restart_interval == 0
    assert b"\xff\xd0" not in data[read_header(data).scan_offset :]


@pytest.mark.parametrize("name", ["jpeg_422", "jpeg_grey"])
def test_the_check_sees_every_number_of_an_index(name):
    data = add_index(SOUND[name])
    offset, size = read_header(data).index
    assert jpeg_index.is_right(data)
    for place in range(offset + 1, offset + size, 2):
        wrong = bytearray(data)
        wrong[place] ^= 1
        try:
            assert not jpeg_index.is_right(bytes(wrong)), place
        except ValueError:
            continue  # the decoder warns


def wrong_indices(data: bytes):
    header = read_header(data)
    offset, size = header.index
    yield "bytes before the end", data[:-2] + b"\1\0" + data[-2:], header
    yield "another image's", data[: offset + 3] + b"\1" + data[offset + 4 :], header
    yield "another interval", data[: offset + 1] + b"\7" + data[offset + 2 :], header
    swapped = bytearray(data)
    entries = np.frombuffer(data, ">u2", size // 2 - 1, offset + 2).reshape(-1, 4)
    swapped[offset + 2 : offset + size] = entries[::-1].tobytes()
    yield "in another order", bytes(swapped), header
    for change in ({"index": (offset, size - 2)}, {"index": (offset, size - 8)}, {"index": (offset, 0)}):
        yield str(change), data, dataclasses.replace(header, **change)


def test_an_index_that_is_not_the_images_is_not_used():
    data = add_index(SOUND["jpeg_420"])
    whole = images.decode(data)
    for words, wrong, header in wrong_indices(data):
        assert jpeg_crops.decode_crop(wrong, header, (20, 30, 41, 52)) is None, words
        assert np.array_equal(images.decode_crop(wrong, lambda *_: (20, 30, 41, 52)), whole[20:61, 30:82]), words


@pytest.mark.parametrize("length", [0, 2, 11, 13, 0xFFFF])
def test_a_scan_header_of_a_wrong_length_is_a_damaged_image_or_decodes(length):
    """At the largest it says that the data of the scan begin after the end of the file."""
    data = bytearray(add_index(SOUND["jpeg_420"]))
    offset = read_header(bytes(data)).scan_offset + 1
    data[offset : offset + 2] = length.to_bytes(2, "big")
    with contextlib.suppress(DamagedImageError):
        assert images.decode_crop(bytes(data), lambda *_: (20, 30, 41, 52)).shape == (41, 52, 3)
    assert add_index(bytes(data)) == bytes(data)


def folder_of_photographs(root):
    for index, class_name in enumerate(("cat", "dog") * 4):
        folder = root / "train" / class_name
        folder.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), image)
    (root / "train" / "cat" / "rest.jpg").write_bytes(JPEG)


def test_a_dataset_is_indexed_and_an_interrupted_one_goes_on(tmp_path, monkeypatch):
    folder_of_photographs(tmp_path / "pets")
    indexed = []

    def fail_at_third(data: bytes) -> bytes:
        indexed.append(data)
        if len(indexed) == 3:
            raise KeyboardInterrupt
        return add_index(data)

    monkeypatch.setattr(jpeg_index, "add_index", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    directory = datasets.prepare_image_folder(str(tmp_path / "pets"), "pets", str(tmp_path / "data"))
    assert not list(directory.glob("*.txt.*")) + list(directory.glob("indexed_shards.txt"))
    read = contents(tmp_path / "data", "pets", splits=("train",))
    for path, (image, class_name) in read.items():
        original = (tmp_path / "pets" / path).read_bytes()
        assert path.split("/")[1] == class_name
        if path.endswith("rest.jpg"):
            assert image == original
        else:
            assert read_header(image).index
            assert np.array_equal(images.decode(image), images.decode(original))
    assert len(read) == 9
