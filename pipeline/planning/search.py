"""Finds the fastest variant of a configuration that fits a slice.

Candidates differ in the global batch, in whether activations are recomputed, and in the number of images that share batch
statistics. A smaller batch is another recipe: the learning rate follows it (`lr_per_256`), but accuracy was published for the
configuration's own batch. So smaller batches are tried only if that does not fit. Of two candidates with the same batch, the
first wins unless the other is 2 % faster.
"""

import copy
import itertools
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from pipeline.planning.report import Plan

WORTH_CHANGING = 1.02  # another recipe must be faster by this factor


def candidates(config: ConfigDict, devices: int) -> Iterator[tuple[str, ConfigDict]]:
    """Yields (changed flags, configuration): first with the configuration's own batch, then with half of it, and so on.

    Batch statistics are tried over `bn_batch` images and over the images of one device, which needs no communication.
    """
    batch = config.batch_size
    while batch >= devices:
        groups = [min(config.model.bn_batch, batch), batch // devices]
        for remat, bn_batch in itertools.product((False, True), dict.fromkeys(groups)):
            if batch % bn_batch:
                continue
            changed = copy.deepcopy(config)
            changed.batch_size, changed.model.remat, changed.model.bn_batch = batch, remat, bn_batch
            yield (
                f"--config.batch_size={batch} --config.model.remat={remat} --config.model.bn_batch={bn_batch}",
                changed,
            )
        batch //= 2


def best(config: ConfigDict, devices: int, make_plan: Callable[[str, ConfigDict], Plan]) -> tuple[str, Plan] | None:
    """Returns the flags and the plan of the fastest candidate that fits, or None.

    Smaller batches are tried only until one fits. With the same work for each image, they are never faster.
    """
    found: tuple[str, Plan] | None = None
    fastest = 0.0  # its images per second
    for flags, candidate in candidates(config, devices):
        if found is not None and candidate.batch_size < found[1].hparams.batch_size:
            break
        plan = make_plan(flags, candidate)
        if plan.estimate is None:
            continue
        if found is None or plan.estimate.images_per_second > WORTH_CHANGING * fastest:
            found, fastest = (flags, plan), plan.estimate.images_per_second
    return found
