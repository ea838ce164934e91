"""Converts a tfds dataset from TFRecord, which can only be read in order, to ArrayRecord.

Records are copied shard by shard with their bytes unchanged, and so are the metadata. The source is only read. An interrupted
conversion continues at the first missing shard. `dataset_info.json` is written last and makes the result a dataset.
"""

import json

import tensorflow_datasets as tfds
import tqdm
from etils import epath

from pipeline.data.preparation.shards import write_shard
from pipeline.data.sources import INFO_FILE, open_builder
from pipeline.errors import DataError
from pipeline.host.whole_files import write_whole


def convert_tfrecords(source: epath.Path, target: epath.Path) -> None:
    """Writes the dataset in the folder `source` to the folder `target` as ArrayRecord.

    Raises:
        DataError: `source` is no tfds dataset of TFRecords, or a shard is missing or damaged.
    """
    info = open_builder(source).info
    if info.file_format.value != "tfrecord":
        raise DataError(f"{source} is stored as {info.file_format.value}; only tfrecord is converted.")
    target.mkdir(parents=True, exist_ok=True)
    for split in info.splits.values():
        _convert_split(split, target)
    for path in source.iterdir():
        if path.suffix in (".json", ".txt") and path.name != INFO_FILE:
            path.copy(target / path.name, overwrite=True)
    content = json.loads((source / INFO_FILE).read_text())
    content["fileFormat"] = "array_record"
    write_whole(target / INFO_FILE, json.dumps(content, indent=2))


def _convert_split(split: tfds.core.SplitInfo, target: epath.Path) -> None:
    template = split.filename_template.replace(data_dir=target, filetype_suffix="array_record")
    with tqdm.tqdm(total=split.num_examples, unit=" images", desc=split.name) as progress:
        for shard, length in enumerate(split.shard_lengths):
            position = {"shard_index": shard, "num_shards": split.num_shards}
            path = epath.Path(template.sharded_filepath(**position))
            if not path.exists():
                write_shard(
                    path, _read_tfrecord(epath.Path(split.filename_template.sharded_filepath(**position)), length)
                )
            progress.update(length)


def _read_tfrecord(path: epath.Path, length: int):
    import tensorflow as tf

    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield record
            count += 1
    except tf.errors.OpError as error:
        raise DataError(f"{path} cannot be read after record {count}: {error.message}") from error
    if count != length:
        raise DataError(f"{path} has {count} records; {INFO_FILE} says {length}.")
