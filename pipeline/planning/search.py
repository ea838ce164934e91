"""Finds the fastest way to run a configuration on a slice, among those that fit.

Candidates differ in the global batch, in whether activations are recomputed, and in the images that share batch statistics;
everything else is the configuration's. A smaller batch is another recipe: the learning rate follows it (`lr_per_256`), but
accuracy was published for the configuration's own batch, so smaller ones are tried only where it does not fit; of two with the
same batch the first wins unless the other is faster by 2 %.
"""

import copy
import itertools
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from pipeline.planning.report import Plan

WORTH_CHANGING = 1.02  # how much faster another recipe must be


def candidates(config: ConfigDict, devices: int) -> Iterator[tuple[str, ConfigDict]]:
    """Yields (what is changed, configuration): the configuration's own batch first, then half of it, and so on.

    Batch statistics are tried over `bn_batch` images and over those of one device, which needs no communication.
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

    Smaller batches are tried only while none fits: with the same work for each image they are never faster.
    """
    found: tuple[str, Plan] | None = None
    for flags, candidate in candidates(config, devices):
        if found is not None and candidate.batch_size < found[1].hparams.batch_size:
            break
        plan = make_plan(flags, candidate)
        if plan.estimate is None:
            continue
        if found is None or plan.estimate.images_per_second > WORTH_CHANGING * found[1].estimate.images_per_second:
            found = flags, plan
    return found
