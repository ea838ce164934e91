"""Draws class-activation maps of the same images for the baseline and the four ways of scaling it (the paper's figure 7).

The networks are those that the study has trained at its largest budget. Nothing is trained here.
"""

from typing import Any

import numpy as np
from etils import epath

from pipeline.data.preprocessing import eval_transform
from pipeline.data.sources import Source, open_source
from pipeline.host.printable import printable
from pipeline.model.scaling_search import resolution_of
from pipeline.model.variants import ScaledVariant
from pipeline.scaling.investigation import Findings
from pipeline.scaling.study import Study
from pipeline.trials.trials import Trial, outcome_of_ended
from pipeline.weights import activation_maps, map_drawing, runs
from pipeline.weights.container import Weights

Panel = tuple[str, np.ndarray]


def draw(findings: Findings, study: Study, workdir: epath.Path) -> np.ndarray:
    """Draws a row for each baseline and image, with a column for the image and one for each network.

    The map of an image is the map of its label. The title names the class that the network predicts.

    Returns:
      uint8 RGB `[height, width, 3]`.
    """
    data = study.train_config.data
    source = open_source(data.name, data.eval_split, data.data_dir)
    examples = [source[index] for index in _of_distinct_classes(source, study.config.maps)]
    rows = []
    for found in findings["baselines"]:
        largest = max(row["times"] for row in found["comparison"])
        networks = {"baseline": found["baseline"]}
        networks |= {row["way"]: row for row in found["comparison"] if row["times"] == largest}
        columns = [_column(way, row, examples, study, workdir) for way, row in networks.items()]
        seen = [_seen(example, found, study, source) for example in examples]
        rows += [list(row) for row in zip(seen, *columns)]
    return map_drawing.panels(rows)


def _of_distinct_classes(source: Source, count: int) -> list[int]:
    """Returns the index of the first example of each of the first `count` classes met."""
    found = {}
    for index in range(len(source)):
        found.setdefault(int(source[index]["label"]), index)
        if len(found) == count:
            break
    return list(found.values())


def _weights(row: dict[str, Any], study: Study, workdir: epath.Path) -> Weights | None:
    """Returns the weights of the network's first trial that succeeded; None if none did."""
    for seed in range(study.config.comparison.seeds):
        trial = Trial(ScaledVariant.parse(row["variant"]), study.train_config.seed + seed)
        if outcome_of_ended(trial, workdir).top1 is not None:
            return runs.read(str(trial.workdir(workdir))).choose()
    return None


def _column(way: str, row: dict[str, Any], examples: list, study: Study, workdir: epath.Path) -> list[Panel]:
    weights = _weights(row, study, workdir)
    if weights is None:
        return [(f"{way}: not trained", np.full((8, 8, 3), 255, np.uint8))] * len(examples)
    activations, transform = activation_maps.make_activations(weights), weights.metadata.eval_transform()
    panels = []
    for example in examples:
        pixels = transform.pixels(example["image"])
        found = activations(pixels)
        taken_for = weights.metadata.name_of(found.most_probable(1)[0])
        panels.append((f"{way}: {taken_for}", map_drawing.overlay(pixels, found.map_of(int(example["label"])))))
    return panels


def _seen(example: dict, found: Findings, study: Study, source: Source) -> Panel:
    """Returns the name of an image's label and the image, at the baseline's resolution."""
    resolution = resolution_of(ScaledVariant.parse(found["baseline"]["variant"]))
    pixels = eval_transform(study.train_config.data, resolution).pixels(example["image"])
    return printable(source.class_names[int(example["label"])]), pixels
