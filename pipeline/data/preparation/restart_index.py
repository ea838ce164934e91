"""Rewrites the JPEGs of a dataset, without loss, so that windows can be cut out of them before anything is decoded.

A picture gets a restart marker after each unit of coding (of large pictures after each few), behind which nothing depends on
what came before (ITU-T T.81, E.1.3), and in front, in a segment APP9, the index: the number of bytes between the markers, two
bytes each, big-endian. Coefficients and so pixels stay what they were, which is checked for every picture; about 5 % is added.
A JPEG of several scans (progressive) becomes one of a single scan. Every other picture, and every one that the library does not
read without a warning, stays as it is. Reading is `jpeg_windows.py`'s business.
"""

import concurrent.futures
import functools
import multiprocessing
import os
import struct

import numpy as np
import tqdm
from array_record.python import array_record_data_source
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from pipeline.data import images, libjpeg_turbo
from pipeline.data.headers import RESTART_INDEX, DamagedPicture, read_header
from pipeline.data.preparation.shards import INCOMPLETE, write_shard
from pipeline.data.workers import usable_cpus
from pipeline.storage import local

_MOST_PIECES = 4096  # the library's time grows with their square; 32,000 would fit into the index
_DONE_FILE = "indexed_shards.txt"  # until all are; losing it costs time only


def index_dataset(directory: epath.Path, image_key: str) -> None:
    """Rewrites the shards of the tfds dataset in `directory`; an interrupted call goes on."""
    if not libjpeg_turbo.is_available():
        print("There is no package turbojpeg for this machine: JPEGs get no index, and training decodes more of each.")
        return
    done_file = directory / _DONE_FILE
    done = set(done_file.read_text().split()) if done_file.exists() else set()
    shards = sorted(
        path
        for path in directory.glob("*.array_record*")
        if path.name not in done and not path.name.startswith(INCOMPLETE)  # left on gs:// by an error
    )
    workers = min(usable_cpus(), len(shards) // 2)  # a process takes seconds to start
    index = functools.partial(_index_shard, image_key=image_key)
    with concurrent.futures.ProcessPoolExecutor(max(workers, 1), multiprocessing.get_context("spawn")) as pool:
        finished = pool.map(index, shards) if workers > 1 else map(index, shards)
        for path, _ in zip(shards, tqdm.tqdm(finished, total=len(shards), unit=" shards", desc="indexing")):
            done.add(path.name)
            done_file.write_text("\n".join(done))
    done_file.unlink(missing_ok=True)


def add_index(data: bytes) -> bytes:
    """Returns a JPEG with restart markers and their index; whatever that cannot be done to comes back as it is.

    Args:
        data: The bytes of a picture of any format, or of none.
    """
    try:
        header = read_header(data)
        if header.format != "jpeg" or header.jpeg.components not in (1, 3) or header.jpeg.index:
            return data
        pixels = images.decode(data)
    except DamagedPicture:
        return data
    frame = header.jpeg
    rows, columns = frame.units(header.height, header.width)
    fitting = (n for n in range(1, columns + 1) if columns % n == 0 and rows * columns // n <= _MOST_PIECES)
    interval = next(fitting, None)
    if interval is None:
        return data
    regions = [
        (left, top, min(interval * frame.unit_width, header.width - left), min(frame.unit_height, header.height - top))
        for top in range(0, header.height, frame.unit_height)
        for left in range(0, header.width, interval * frame.unit_width)
    ]
    pieces = libjpeg_turbo.cut_losslessly(data, regions)
    if pieces is None:
        return data
    *pieces, whole = pieces
    begin = _begin_of_data(pieces[0])  # of all pieces: their headers differ in numbers alone
    indexed = _assemble(whole, [piece[begin:-2] for piece in pieces], interval)
    return indexed if np.array_equal(images.decode(indexed), pixels) else data


def _assemble(whole: bytes, scans: list[bytes], interval: int) -> bytes:
    """Returns the JPEG `whole` with the coded data of its pieces, with restart markers between them, and with their index."""
    index = RESTART_INDEX + np.array([len(scan) for scan in scans], ">u2").tobytes()
    begin, scan_header = _begin_of_data(whole), read_header(whole).jpeg.scan_offset - 1
    parts = [
        *(whole[:2], b"\xff\xe9", struct.pack(">H", 2 + len(index)), index),
        *(whole[2:scan_header], b"\xff\xdd\x00\x04", struct.pack(">H", interval), whole[scan_header:begin]),
    ]
    for number, scan in enumerate(scans):
        parts += [scan, bytes((0xFF, 0xD0 + number % 8))]
    parts[-1] = b"\xff\xd9"
    return b"".join(parts)


def _begin_of_data(data: bytes) -> int:
    """Returns where the coded data of the first scan begins."""
    length = read_header(data).jpeg.scan_offset + 1
    return length + int.from_bytes(data[length : length + 2], "big")


def _index_shard(path: epath.Path, image_key: str) -> None:
    """Writes a shard anew if that changes a picture. The records are in memory: about 200 MB."""
    records, changed = [], False
    with (
        local.local_copy(path) as file,  # of a bucket: one read instead of two for each record
        array_record_data_source.ArrayRecordDataSource(os.fspath(file)) as shard,
    ):
        for number in range(len(shard)):
            example = tf_example_pb2.Example.FromString(shard[number])
            picture = example.features.feature[image_key].bytes_list
            indexed = add_index(picture.value[0])
            changed = changed or indexed != picture.value[0]
            picture.value[0] = indexed
            records.append(example.SerializeToString())
    if changed:
        write_shard(path, records)
