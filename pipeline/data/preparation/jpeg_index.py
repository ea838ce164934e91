"""Adds an MCU index to the JPEGs of a dataset, so that training decodes only the crop.

The index says where every few MCUs begin (`mcu_index.py`). It adds about 4 %. The scan stays as it is, byte for byte, with
the file's own Huffman tables. One pass of entropy decoding makes the index. A decoder then checks it: the MCU at each entry,
decoded by itself, must have the same pixels as in the image. DC tables get the codes that they lack, because a crop may need
any, and restart markers are removed. An image that cannot be indexed, or that decodes with a warning, stays as it is.
"""

import concurrent.futures
import functools
import math
import os
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg
import tqdm
from array_record.python import array_record_data_source
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from pipeline.data.compiled_loops import compiled
from pipeline.data.decoding import images, mcu_index
from pipeline.data.decoding.headers import MCU_INDEX, DamagedImageError, JpegHeader, read_jpeg_header
from pipeline.data.decoding.huffman import MAX_COMPONENTS
from pipeline.data.decoding.mcu_index import MAX_CONTENT
from pipeline.data.loading.workers import usable_cpus
from pipeline.data.preparation.shards import INCOMPLETE, write_shard
from pipeline.storage import local

_SHARE = 24  # the index takes at most this fraction of the file: 1 / _SHARE
_MIN_SHARE = 16  # or this fraction, if an entry for each row takes more
_DONE_FILE = "indexed_shards.txt"  # removed once all shards are done; losing it costs only time
_DC_VALUES = 12  # the differences of 8-bit samples have 0 to 11 bits [ITU-T T.81, table F.1]


def index_dataset(directory: epath.Path, image_key: str) -> None:
    """Rewrites the shards of the tfds dataset in `directory`; resumable. All CPUs work on one shard at a time."""
    import tensorflow_datasets as tfds

    done_file = directory / _DONE_FILE
    done = set(done_file.read_text().split()) if done_file.exists() else set()
    splits = tfds.builder_from_directory(directory).info.splits.values()
    lengths = {name: length for split in splits for name, length in zip(sorted(split.filenames), split.shard_lengths)}
    shards = sorted(
        path
        for path in directory.glob("*.array_record*")
        if path.name not in done and not path.name.startswith(INCOMPLETE)  # an error leaves these on gs://
    )
    total = sum(lengths.get(path.name, 0) for path in shards)
    workers = concurrent.futures.ThreadPoolExecutor(usable_cpus())  # the compiled loops release Python's lock
    writer = concurrent.futures.ThreadPoolExecutor(1)
    try:
        with tqdm.tqdm(total=total, unit=" images", desc="indexing") as progress:
            writing = None
            for path in shards:
                records = _indexed_records(path, image_key, workers, progress)
                if writing:
                    done.add(writing.result())
                    done_file.write_text("\n".join(done))
                writing = writer.submit(_write, path, records)  # while the next shard is indexed
            if writing:
                writing.result()
    finally:
        workers.shutdown(cancel_futures=True)
        writer.shutdown()
    done_file.unlink(missing_ok=True)


def _indexed_records(path: epath.Path, image_key: str, workers: concurrent.futures.Executor, progress) -> list[bytes]:
    """Returns the records of a shard with their indices, about 200 MB; none if nothing changes."""
    records, changed = [], False
    with (
        local.local_copy(path) as file,  # one read instead of two for each record of a bucket
        array_record_data_source.ArrayRecordDataSource(os.fspath(file)) as shard,
    ):
        index = functools.partial(_indexed_record, image_key=image_key)
        for record, different in workers.map(index, map(shard.__getitem__, range(len(shard)))):
            records.append(record)
            changed = changed or different
            progress.update()
    return records if changed else []


def _indexed_record(record: bytes, image_key: str) -> tuple[bytes, bool]:
    """Returns a `tf.train.Example` whose image has an index, and whether that is new."""
    example = tf_example_pb2.Example.FromString(record)  # pyrefly: ignore[missing-attribute] - made on import
    image = example.features.feature[image_key].bytes_list
    indexed = add_index(image.value[0])
    if indexed == image.value[0]:
        return record, False
    image.value[0] = indexed
    return example.SerializeToString(), True


def _write(path: epath.Path, records: list[bytes]) -> str:
    """Rewrites a shard if it has changed, and returns its name."""
    if records:
        write_shard(path, records)
    return path.name


def add_index(data: bytes) -> bytes:
    """Returns a JPEG with an index; returns anything that cannot be indexed unchanged.

    Args:
        data: Any bytes; usually an image.
    """
    try:
        header = images.checked_header(data)
        if not isinstance(header, JpegHeader) or header.index:
            return data
        if header.components not in (1, 3) or not header.one_scan:
            return data
        indexed = _indexed(data)
        return indexed if indexed is not None and is_right(indexed) else data
    except (DamagedImageError, ValueError):
        return data


def is_right(data: bytes) -> bool:
    """Returns whether the first MCU of each entry, decoded by itself, has the pixels of the image.

    Every number of the index affects the result. Both decodings leave chroma unsmoothed, so no pixel depends on another MCU.

    Args:
        data: A JPEG with an index.

    Raises:
        ValueError: The decoder warns.
    """
    header = read_jpeg_header(data)
    if header.index is None:
        return False
    rows, columns = header.mcus()
    interval = int.from_bytes(data[header.index[0] : header.index[0] + 2], "big")
    across = math.isqrt(-(-rows * columns // interval) - 1) + 1
    down = -(-rows * columns // interval // across)
    out = np.empty(2 * mcu_index.max_written(len(data)) + 64 * across * down, np.uint8)
    source, scan = np.frombuffer(data, np.uint8), header.scan_offset + 1
    written = mcu_index.first_mcus(source, header.height_offset, scan, header.index, rows * columns, across * down, out)
    if not written:
        return False
    head = bytearray(data[: _data_begin(data, header)])
    size = struct.pack(">HH", down * header.mcu_height, across * header.mcu_width)
    head[header.height_offset : header.height_offset + 4] = size
    del head[2 : sum(header.index)]
    found = _decoded(b"".join((head, out[:written].data)))
    entries = -(-rows * columns // interval)
    mcu = header.mcu_height, header.mcu_width
    return _same_mcus(_decoded(data), found, entries, interval, columns, across, mcu)


@compiled
def _same_mcus(
    whole: np.ndarray,
    firsts: np.ndarray,
    entries: int,
    interval: int,
    columns: int,
    across: int,
    mcu: tuple[int, int],
) -> bool:
    """Returns whether the first MCU of each entry has the same pixels as in the whole image.

    Args:
        whole: The image, uint8 RGB `[height, width, 3]`.
        firsts: The first MCUs of the entries in row-major order, uint8 RGB `[height, width, 3]`.
        entries: Number of entries.
        interval: Number of MCUs per entry.
        columns: Number of MCU columns of the image.
        across: Number of MCU columns of `firsts`.
        mcu: Height and width of an MCU in pixels.
    """
    for entry in range(entries):
        row, column = entry * interval // columns, entry * interval % columns
        top, left = row * mcu[0], column * mcu[1]
        other_top, other_left = entry // across * mcu[0], entry % across * mcu[1]
        for y in range(min(mcu[0], len(whole) - top)):  # the last MCUs may extend beyond the image
            for x in range(min(mcu[1], whole.shape[1] - left)):
                for channel in range(3):
                    if whole[top + y, left + x, channel] != firsts[other_top + y, other_left + x, channel]:
                        return False
    return True


def _decoded(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True, strict=True)


def _indexed(data: bytes) -> bytes | None:
    """Returns a JPEG of one scan with its index; None if the scan does not match its headers."""
    data = _with_all_dc_codes(data)
    header = read_jpeg_header(data)
    if header.restart_interval:
        data = _without_restart_markers(data, header)
        header = read_jpeg_header(data)
    rows, columns = header.mcus()
    interval = min(columns, _interval(rows * columns, len(data), header.components))
    entries = -(-rows * columns // interval)
    starts, dc_values = np.empty(entries + 1, np.int64), np.empty((entries, MAX_COMPONENTS), np.int64)
    source, scan = np.frombuffer(data, np.uint8), header.scan_offset + 1
    found = mcu_index.find_mcus(source, header.height_offset, scan, rows * columns, interval, starts, dc_values)
    lengths = np.diff(starts)
    if not found or lengths.max() > 0xFFFF or np.abs(dc_values).max() > 0x7FFF:
        return None
    fields = np.hstack([lengths[:, None], dc_values[:, : header.components]])
    index = MCU_INDEX + struct.pack(">H", interval) + (fields & 0xFFFF).astype(">u2").tobytes()
    if len(index) > len(data) // _MIN_SHARE or len(index) > MAX_CONTENT:
        return None
    return b"".join((data[:2], _segment(0xE9, index), data[2:]))


def _interval(mcus: int, size: int, components: int) -> int:
    """Returns the number of MCUs per entry, such that the index is short compared with a file of `size` bytes."""
    each = mcu_index.entry_bytes(components)
    entries = max(1, min(size // _SHARE, MAX_CONTENT - len(MCU_INDEX) - 2) // each)
    return -(-mcus // entries)


def _with_all_dc_codes(data: bytes) -> bytes:
    """Returns a JPEG whose DC tables have a code for every difference. Extended tables are added in front of the scan.

    Existing codes stay. New codes are longer than all of them; they begin with the all-ones prefix, which no code uses.

    Raises:
        ValueError: There is no room for the new codes, or the headers are invalid.
    """
    scan = read_jpeg_header(data).scan_offset
    tables = {}
    for marker, content in _segments(data):
        while marker == 0xC4 and content:
            counts = content[1:17]
            tables[content[0]], content = (counts, content[17 : 17 + sum(counts)]), content[17 + sum(counts) :]
    added = b""
    for name in sorted({selected >> 4 for selected in data[scan + 5 : scan + 4 + 2 * data[scan + 3] : 2]}):
        if name not in tables:
            raise ValueError(f"no DC table {name}")
        counts, values = list(tables[name][0]), tables[name][1]
        missing = bytes(set(range(_DC_VALUES)) - set(values))
        if missing:
            longest = max(length for length in range(1, 17) if counts[length - 1])
            free = (1 << longest) - sum(count << longest - length for length, count in enumerate(counts[:longest], 1))
            length = next(n for n in (*range(longest, 17), 0) if n == 0 or (free << n - longest) - 1 >= len(missing))
            if not length:
                raise ValueError(f"no room for codes in DC table {name}")
            counts[length - 1] += len(missing)
            added += _segment(0xC4, bytes((name, *counts)) + values + missing)
    return data[: scan - 1] + added + data[scan - 1 :]


def _without_restart_markers(data: bytes, header: JpegHeader) -> bytes:
    """Returns a JPEG of one scan without its restart markers.

    Raises:
        ValueError: The scan does not match its headers.
    """
    rows, columns = header.mcus()
    out = np.empty(mcu_index.max_written(len(data)) + 64 * rows * columns // header.restart_interval, np.uint8)
    source, scan = np.frombuffer(data, np.uint8), header.scan_offset + 1
    interval = header.restart_interval
    written = mcu_index.join_segments(source, header.height_offset, scan, rows * columns, interval, out)
    if not written:
        raise ValueError("restart markers that are not where they should be")
    kept = [_segment(marker, content) for marker, content in _segments(data) if marker != 0xDD]
    return b"".join((data[:2], *kept, data[scan - 2 : _data_begin(data, header)], out[:written].data))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the segments in front of the first scan: the marker's second byte and the content.

    Raises:
        ValueError: There are other bytes between them.
    """
    position, end = 2, read_jpeg_header(data).scan_offset - 1
    while position < end:
        first, marker, length = struct.unpack_from(">BBH", data, position)
        if first != 0xFF or marker == 0xFF or length < 2 or position + 2 + length > end:
            raise ValueError("bytes between two segments")
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + length


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _data_begin(data: bytes, header: JpegHeader) -> int:
    scan = header.scan_offset + 1
    return scan + int.from_bytes(data[scan : scan + 2], "big")
