"""The most probable classes of pictures."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.weights.container import Weights
from pipeline.weights.forward import make_forward
from pipeline.weights.photographs import prepare


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is on a picture: labels, names and probabilities of the most probable classes, in order."""

    picture: str
    labels: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the prediction as JSON."""
        rows = zip(self.labels, self.names, self.probabilities)
        classes = [{"label": label, "name": name, "probability": share} for label, name, share in rows]
        return {"picture": self.picture, "classes": classes}

    def as_table(self) -> str:
        """Returns the prediction as lines of text."""
        rows = zip(self.labels, self.names, self.probabilities)
        return "\n".join([self.picture, *(f"  {share:7.2%}  {label:5}  {name}" for label, name, share in rows)])


def predict(weights: Weights, pictures: Sequence[bytes], names: Sequence[str], top: int) -> Iterator[Prediction]:
    """Yields a prediction for each picture file.

    Args:
      weights: What to predict with.
      pictures: Contents of picture files.
      names: What to call them.
      top: How many classes; all of them where there are fewer.

    Raises:
      DataError: a picture is damaged; those before it have been yielded.
    """
    forward = make_forward(weights)
    for data, name in zip(pictures, names):
        logits = forward(prepare([data], weights.metadata, [name]))[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        labels = np.argsort(-probabilities, kind="stable")[:top]
        yield Prediction(
            picture=name,
            labels=tuple(int(label) for label in labels),
            names=tuple(weights.metadata.name_of(int(label)) for label in labels),
            probabilities=tuple(float(probabilities[label]) for label in labels),
        )
