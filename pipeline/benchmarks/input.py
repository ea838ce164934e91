"""Measures what the input costs a host, stage by stage, beside `tf.data` with TensorFlow's own operations.

The transform and the batches are those of training. Costs are CPU-seconds, which do not depend on other load; rates are
wall-clock. Ours and the baseline take turns within one run, on the same images, and medians are reported. TensorFlow is
imported for the baseline only.
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.data.decoding.headers import DamagedImageError
from pipeline.data.decoding.images import checked_header
from pipeline.data.loading.batches import train_batches
from pipeline.data.loading.workers import usable_cpus
from pipeline.data.preparation.jpeg_index import add_index
from pipeline.data.preprocessing import TrainTransform
from pipeline.data.sources import Source
from pipeline.errors import DataError

_BATCH = 64
_ROUNDS = 3  # of ours and of the baseline, in turns
_BUFFERED_BATCHES = 4  # at most, of each worker: in its thread, its queue and the parent's thread
_RATE_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class InputCosts:
    """The costs of an image.

    Attributes:
        stages: CPU-seconds of an image by stage, in order.
        one_process: CPU-seconds of an image from the disk to a batch, without worker processes.
        baseline: the same for `tf.data` with decode_and_crop_jpeg and resize_bicubic and no augmentation; None where the
            images are not all JPEGs.
        workers: processes in the measurement of `images_per_second`.
        images_per_second: wall-clock rate with `workers`.
        baseline_images_per_second: wall-clock rate of the baseline with all CPUs.
    """

    stages: dict[str, float]
    one_process: float
    baseline: float | None
    workers: int
    images_per_second: float
    baseline_images_per_second: float | None


class FolderSource:
    """The images of a folder, at any depth, as a source; JPEGs get an index, as in a prepared dataset.

    Attributes:
        name: the folder.
        remote: see `pipeline.data.sources.Source`.
    """

    remote = False

    def __init__(self, folder: str, most: int):
        """Reads the first `most` images by name into memory.

        Raises:
            DataError: there is none.
        """
        self.name = folder
        files = (path for path in sorted(pathlib.Path(folder).expanduser().rglob("*")) if path.is_file())
        pairs = itertools.islice(((path, data) for path in files if _is_image(data := path.read_bytes())), most)
        self._images = [(str(path), add_index(data)) for path, data in pairs]
        if not self._images:
            raise DataError(f"--data={folder}: there is no image in it; name a folder of JPEGs or other images")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, record: int) -> dict:
        return {"image": self._images[record][1], "label": 0}

    def __repr__(self) -> str:
        return f"FolderSource({self.name!r}, {len(self)} images)"

    def describe(self, record: int) -> str:
        """Returns the name of the image's file."""
        return self._images[record][0]


def _is_image(data: bytes) -> bool:
    try:
        return bool(checked_header(data))
    except DamagedImageError:
        return False


def measure_input(
    source: Source | FolderSource,
    transform: TrainTransform,
    image_size: int,
    transfer: Callable[[dict], None],
    images: int,
) -> InputCosts:
    """Measures the input of training.

    Args:
        source: the images; the first `images` of them are used.
        transform: that of training; its steps are timed one by one.
        image_size: pixels of each side, for the baseline.
        transfer: copies a batch to the devices and waits for it.
        images: how many images each measurement reads, rounded up to whole batches.
    """
    import cv2

    cv2.setNumThreads(0)  # as in the workers, so one thread's CPU time is all of it
    steps = -(-images // _BATCH)
    encoded = [source[record % len(source)]["image"] for record in range(steps * _BATCH)]
    workers = usable_cpus()
    ours = train_batches(source, transform, batch_size=_BATCH, seed=0)
    inputs: dict[str, Iterator] = {"ours": ours}
    with tempfile.TemporaryDirectory() as folder:
        if all(data.startswith(b"\xff\xd8") for data in encoded):
            inputs["baseline"] = _baseline_batches(encoded, image_size, f"{folder}/images.tfrecord")
        costs = collections.defaultdict(list)
        for _ in range(_ROUNDS):
            for name, batches in inputs.items():
                costs[name].append(_cpu_seconds(batches, steps))
        ours.close()
        has_baseline = "baseline" in inputs
        several = train_batches(source, transform, batch_size=_BATCH, seed=0, workers=workers)
        rate = _rate(several, workers)
        baseline_rate = _rate(inputs["baseline"], workers) if has_baseline else None
        several.close()
    return InputCosts(
        stages=_stage_costs(source, transform, transfer, steps),
        one_process=statistics.median(costs["ours"]),
        baseline=statistics.median(costs["baseline"]) if has_baseline else None,
        workers=workers,
        images_per_second=rate,
        baseline_images_per_second=baseline_rate,
    )


def report(costs: InputCosts) -> str:
    """Returns the costs as a table: CPU milliseconds, images in a CPU-second, rates, and the cores they need."""
    lines = [f"{'':34}{'CPU ms / image':>16}{'images / CPU-second':>22}"]
    lines += [_row(name, seconds) for name, seconds in costs.stages.items()]
    lines += [_row("disk to batch, in one process", costs.one_process)]
    if costs.baseline is None:
        lines += ["tf.data: not measured, because not all images are JPEGs"]
    else:
        lines += [
            _row("tf.data, without augmentation", costs.baseline),
            f"{costs.baseline / costs.one_process:.2f} times the images of tf.data in a CPU-second",
        ]
    lines += [f"{costs.images_per_second:,.0f} images/s with {costs.workers} worker processes"]
    if costs.baseline_images_per_second is not None:
        lines += [f"{costs.baseline_images_per_second:,.0f} images/s with tf.data"]
    return "\n".join(lines)


def cores_needed(costs: InputCosts, images_per_second: float) -> int:
    """Returns how many cores like this machine's produce `images_per_second`."""
    return int(np.ceil(images_per_second * costs.one_process))


def _row(name: str, seconds: float) -> str:
    return f"{name:34}{seconds * 1e3:16.3f}{1 / seconds if seconds else float('inf'):22,.0f}"


def _cpu_seconds(batches: Iterator, steps: int) -> float:
    """Takes `steps` batches and returns the CPU-seconds of this process for an image.

    Batches are prepared ahead. All buffers are full before and after, so exactly `steps` batches are counted.
    """
    next(batches)
    _wait_until_idle()
    start = time.process_time()
    for _ in range(steps):
        next(batches)
    _wait_until_idle()
    return (time.process_time() - start) / (steps * _BATCH)


def _rate(batches: Iterator, workers: int) -> float:
    """Returns the images per second that an idle consumer gets once the buffers are empty."""
    for _ in range(_BUFFERED_BATCHES * (1 + workers)):
        next(batches)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < _RATE_SECONDS or steps < workers:
        next(batches)
        steps += 1
    return steps * _BATCH / (time.perf_counter() - start)


def _wait_until_idle() -> None:
    """Waits until this process has used almost no CPU for a moment."""
    before = -1.0
    while (now := time.process_time()) - before > 0.002:
        before = now
        time.sleep(0.1)


def _stage_costs(
    source: Source | FolderSource, transform: TrainTransform, transfer: Callable[[dict], None], steps: int
) -> dict[str, float]:
    """Returns the CPU-seconds of an image by stage: this thread takes each image through the transform's steps."""
    clock = _Clock()
    for step in range(-1, steps):
        if step == 0:  # the first batch warms up and is not counted
            clock = _Clock()
        records = [(step * _BATCH + row) % len(source) for row in range(_BATCH)]
        with clock("read"):
            files = [source[record]["image"] for record in records]
        images = []
        for record, image in zip(records, files):
            rng = np.random.default_rng(record)
            with contextlib.suppress(DamagedImageError):
                for name, take in transform.steps().items():
                    with clock(name):
                        image = take(image, rng)
                images.append(image)
        with clock("batch"):
            batch = {"image": np.stack(images)}
        with clock("transfer to the devices"):
            transfer(batch)
    return {name: seconds / (steps * _BATCH) for name, seconds in clock.seconds.items()}


class _Clock:
    """Collects the CPU-seconds of this thread spent in named blocks."""

    def __init__(self):
        self.seconds = collections.defaultdict(float)

    def __call__(self, name: str) -> "_Clock":
        self._name = name
        return self

    def __enter__(self) -> None:
        self._start = time.thread_time()

    def __exit__(self, *_) -> None:
        self.seconds[self._name] += time.thread_time() - self._start


def _baseline_batches(encoded: list[bytes], image_size: int, path: str) -> Iterator:
    """Returns batches made by TensorFlow's own operations: published crop, decode_and_crop_jpeg, resize_bicubic.

    The images are read from a file of `tf.train.Example`s, as in practice; it is written to `path`. TensorFlow skips the
    segment with the index of `pipeline.prepare`.
    """
    import tensorflow as tf

    with tf.io.TFRecordWriter(path) as writer:
        for data in encoded:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
            writer.write(example.SerializeToString())

    def pixels(example):
        data = tf.io.parse_single_example(example, {"image": tf.io.FixedLenFeature([], tf.string)})["image"]
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            bounding_boxes=tf.zeros([1, 0, 4]),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        return tf.compat.v1.image.resize_bicubic([image], [image_size, image_size])[0]

    dataset = tf.data.TFRecordDataset(path).repeat()
    dataset = dataset.map(pixels, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH, drop_remainder=True).prefetch(2)
    return iter(dataset)
