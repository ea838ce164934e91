"""Images in every format and mode, and what a careless or hostile file does to them."""

import io
import struct
import zlib

import cv2
import numpy as np
import simplejpeg
from PIL import Image


def pixels(height: int = 90, width: int = 131) -> np.ndarray:
    """A smooth colourful image, uint8 RGB."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def _save(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _opencv(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def sound_images() -> dict[str, bytes]:
    """Files that must decode, by a name that begins with their format."""
    array = pixels()
    image = Image.fromarray(array)
    turned = image.rotate(180)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(array[..., 1]))
    grey_alpha = image.convert("LA")
    grey_alpha.putalpha(Image.fromarray(array[..., 1]))
    deep = array.astype(np.uint16) * 257 + 100
    files = {
        "jpeg_restarts": _save(image, "JPEG", restart_marker_blocks=3),
        "jpeg_grey": _save(image.convert("L"), "JPEG"),
        "jpeg_grey_progressive": _save(image.convert("L"), "JPEG", progressive=True),
        "jpeg_cmyk": _save(image.convert("CMYK"), "JPEG", quality=95),
        "jpeg_ycck": simplejpeg.encode_jpeg(np.dstack([array, array[..., :1]]), 95, "CMYK"),
        "jpeg_exif": _save(
            image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        ),
        "png_16bit": _opencv(deep),
        "png_16bit_grey": _opencv(deep[..., 0]),
        "png_16bit_alpha": _opencv(np.dstack([deep, deep[..., 0]])),
        "png_alpha": _save(alpha, "PNG"),
        "png_grey_alpha": _save(grey_alpha, "PNG"),
        "png_transparent_palette": _save(image.quantize(64), "PNG", transparency=3),
        "webp": _save(image, "WEBP"),
        "webp_lossless": _save(image, "WEBP", lossless=True),
        "webp_alpha": _save(alpha, "WEBP", lossless=True, exact=True),
        "webp_animated": _save(image, "WEBP", save_all=True, append_images=[turned], lossless=True),
        "gif": _save(image, "GIF"),
        "gif_grey": _save(image.convert("L"), "GIF"),
        "gif_animated": _save(image.quantize(32), "GIF", save_all=True, append_images=[turned.quantize(32)]),
    }
    ycck = files["jpeg_ycck"]
    start = ycck.index(b"\xff\xee")
    files["jpeg_cmyk_without_marker"] = ycck[:start] + ycck[start + 2 + int.from_bytes(ycck[start + 2 : start + 4]) :]
    for subsampling in range(3):
        for progressive in (False, True):
            name = f"jpeg_{('444', '422', '420')[subsampling]}{'_progressive' * progressive}"
            files[name] = _save(image, "JPEG", quality=92, subsampling=subsampling, progressive=progressive)
    for mode in ("RGB", "L", "P", "1"):
        files[f"png_{mode}"] = _save(image.convert(mode), "PNG")
    for mode in ("RGB", "RGBA", "L", "P", "1"):
        files[f"bmp_{mode}"] = _save(image.convert(mode), "BMP")
    return files


def odd_sizes() -> dict[str, bytes]:
    """Sound files of one pixel, one row and one column."""
    files = {}
    for height, width in ((1, 1), (1, 10_000), (10_000, 1)):
        line = Image.fromarray(np.full((height, width, 3), (200, 100, 50), np.uint8))
        for format_name in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
            files[f"{format_name.lower()}_{height}x{width}"] = _save(line, format_name)
    return files


def bombs(side: int = 30_000) -> dict[str, bytes]:
    """Small files whose headers claim `side` x `side` pixels."""
    sound = sound_images()
    files = {}
    for name in ("jpeg_420", "jpeg_444_progressive", "jpeg_cmyk"):
        data = bytearray(sound[name])
        marker = b"\xff\xc2" if "progressive" in name else b"\xff\xc0"
        struct.pack_into(">HH", data, data.index(marker) + 5, side, side)
        files[name] = bytes(data)
    for name in ("png_RGB", "png_16bit_alpha", "png_P"):
        data = bytearray(sound[name])
        struct.pack_into(">II", data, 16, side, side)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
        files[name] = bytes(data)
    data = bytearray(sound["gif"])
    struct.pack_into("<HH", data, 6, side, side)
    files["gif"] = bytes(data)
    for height in (side, -side):
        data = bytearray(sound["bmp_RGB"])
        struct.pack_into("<ii", data, 18, side, height)
        files[f"bmp_{height}"] = bytes(data)
    data = bytearray(sound["webp_animated"])
    data[24:30] = (side - 1).to_bytes(3, "little") * 2
    files["webp_animated"] = bytes(data)
    for name in ("webp", "webp_lossless"):
        data = bytearray(sound[name])
        if name == "webp":
            struct.pack_into("<HH", data, 26, 16383, 16383)
        else:
            struct.pack_into("<I", data, 21, (16382 << 14) | 16382)
        files[name] = bytes(data)
    return files


def rubbish() -> dict[str, bytes]:
    """Bytes that are no image, or the beginning of one."""
    rng = np.random.default_rng(0)
    unsampled = bytearray(sound_images()["jpeg_420"])
    unsampled[unsampled.index(b"\xff\xc0") + 11] = 0
    return {
        "jpeg without sampling factors": bytes(unsampled),
        "empty": b"",
        "one byte": b"\xff",
        "text": b"not an image at all, " * 20,
        "random": rng.bytes(4000),
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "jpeg magic": b"\xff\xd8",
        "jpeg markers": b"\xff\xd8" + b"\xff" * 5000,
        "jpeg zeros": b"\xff\xd8" + bytes(5000),
        "jpeg no scan": b"\xff\xd8\xff\xd9",
        "jpeg scan only": b"\xff\xd8\xff\xda\x00\x0c" + bytes(200) + b"\xff\xd9",
        "jpeg empty segment": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 1000,
        "png magic": b"\x89PNG\r\n\x1a\n",
        "png zeros": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "gif magic": b"GIF89a",
        "gif zeros": b"GIF89a" + bytes(1000),
        "bmp magic": b"BM",
        "bmp zeros": b"BM" + bytes(1000),
        "webp magic": b"RIFF\x00\x00\x00\x00WEBP",
        "webp zeros": b"RIFF\x00\x00\x00\x00WEBP" + bytes(1000),
        "webp unknown": b"RIFF\x00\x00\x00\x00WEBPVP8Q" + bytes(1000),
    }
