"""Predicts the most probable classes of images, one after another; an unreadable image does not stop the others."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.weights.container import Weights
from pipeline.weights.forward import make_forward
from pipeline.weights.image_files import ImageFile


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The labels, names and probabilities of an image's most probable classes, in order."""

    image: str
    labels: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the prediction as JSON."""
        rows = zip(self.labels, self.names, self.probabilities)
        classes = [{"label": label, "name": name, "probability": share} for label, name, share in rows]
        return {"picture": self.image, "classes": classes}  # "picture" since the first version: others read it

    def as_table(self) -> str:
        """Returns the prediction as lines of text."""
        rows = zip(self.labels, self.names, self.probabilities)
        return "\n".join([self.image, *(f"  {share:7.2%}  {label:5}  {name}" for label, name, share in rows)])


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image without a prediction, and the reason."""

    image: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns the reason as JSON."""
        return {"picture": self.image, "error": self.reason}

    def as_table(self) -> str:
        """Returns the reason as lines of text."""
        return f"{self.image}\n  cannot be read: {self.reason}"


def predict(weights: Weights, files: Iterable[ImageFile], top: int) -> Iterator[Prediction | Unreadable]:
    """Yields the prediction of each image, in order; files are read lazily.

    Args:
      weights: The weights.
      files: The images.
      top: The number of classes; all of them if there are fewer.
    """
    forward, transform = make_forward(weights), weights.metadata.eval_transform()
    for file in files:
        try:
            pixels = transform.pixels(file.read())
        except DataError as error:
            yield Unreadable(file.name, str(error))
            continue
        logits = forward(pixels[None])[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        labels = np.argsort(-probabilities, kind="stable")[:top]
        yield Prediction(
            image=file.name,
            labels=tuple(int(label) for label in labels),
            names=tuple(weights.metadata.name_of(int(label)) for label in labels),
            probabilities=tuple(float(probabilities[label]) for label in labels),
        )
