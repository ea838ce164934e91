"""A transform small enough to see through, picklable for the worker processes."""

import dataclasses
import os
import signal

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Noise:
    """Decodes, and with a generator adds random grey levels.

    Attributes:
        fail_at: the record at which it raises.
        die_at: the record at which its process is killed.
        damaged: the records whose images are damaged.
    """

    fail_at: int = -1
    die_at: int = -1
    damaged: tuple[int, ...] = ()

    def __call__(self, example: dict, rng: np.random.Generator | None = None) -> dict:
        if example["record"] == self.fail_at:
            raise ZeroDivisionError("on purpose")
        if example["record"] == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)
        if rng is not None:
            image = image + rng.integers(0, 256, image.shape, dtype=np.uint8)
        return {
            "image": image,
            "label": np.int32(example["label"]),
            "weight": np.float32(example["record"] not in self.damaged),
            "record": np.int64(example["record"]),
        }


@dataclasses.dataclass(frozen=True)
class Repeated:
    """`Noise` with its image several times to each side, for images of several sizes; attributes as there."""

    times: int
    die_at: int = -1
    damaged: tuple[int, ...] = ()

    def __call__(self, example: dict, rng: np.random.Generator | None = None) -> dict:
        example = Noise(die_at=self.die_at, damaged=self.damaged)(example, rng)
        return {**example, "image": np.tile(example["image"], (self.times, self.times, 1))}


@dataclasses.dataclass(frozen=True)
class Large:
    """A transform whose batches are large enough to go through memory that workers share: the image of `Noise`, repeated.

    Attributes:
        times: how often, to each side.
        die_at: the record at which its process is killed.
    """

    times: int = 20
    die_at: int = -1

    def __call__(self, example: dict, rng: np.random.Generator | None = None) -> dict:
        return Repeated(self.times, self.die_at)(example, rng)


def note_and_die(trace, record: int) -> None:
    """Is a worker that is killed at a record."""
    trace.note(record)
    os.kill(os.getpid(), signal.SIGKILL)
