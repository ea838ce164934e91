"""Reads and writes `search.json`, the record of a search: every proposal in order, and all that was found.

The record is written whole after each trial. It is enough to continue a search: a trial that it holds is not trained again,
though its folder be gone. Failures count only with the file in their folder, so that deleting it repeats the trial.
"""

import json
from typing import Any

from etils import epath

from pipeline.errors import DataError
from pipeline.host.whole_files import write_whole
from pipeline.search.study import FINAL, FULL, PROXY
from pipeline.trials.trials import Outcome

RECORD = "search.json"
Findings = dict[str, Any]
Key = tuple[str, str, int]  # group, network, seed of the run


class Record:
    """The record of an earlier start.

    Attributes:
      outcomes: The accuracies that it holds.
      proposed: The networks of each course, by algorithm and seed.
    """

    def __init__(self, outcomes: dict[Key, Outcome], proposed: dict[tuple[str, int], list[str]]):
        self.outcomes, self.proposed = outcomes, proposed

    @classmethod
    def read(cls, workdir: epath.Path, seed: int) -> "Record":
        """Reads the record in a folder; an absent one is empty.

        Args:
          workdir: The folder of the search.
          seed: The seed of the proxies' runs.

        Raises:
          DataError: the record is damaged.
        """
        path = workdir / RECORD
        if not path.exists():
            return cls({}, {})
        try:
            content = json.loads(path.read_text())
            outcomes, proposed = {}, {}
            for course in content["searches"]:
                rows = course["trials"]
                proposed[str(course["algorithm"]), int(course["seed"])] = [str(row["network"]) for row in rows]
                outcomes |= {
                    (PROXY, row["network"], seed): _accuracy(row["top1"]) for row in rows if row["top1"] is not None
                }
            for group, name in ((FULL, "full"), (FINAL, "final")):
                for row in content[name]:
                    for own, top1 in row["top1"].items():
                        outcomes[group, row["network"], int(own)] = _accuracy(top1)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}): delete it, and the trials' folders tell the rest"
            ) from error
        return cls(outcomes, proposed)

    def check(self, algorithm: str, seed: int, proposed: list[str]) -> None:
        """Compares the proposals of a course with those recorded, as far as both go.

        Raises:
          DataError: they differ.
        """
        for index, (recorded, found) in enumerate(zip(self.proposed.get((algorithm, seed), []), proposed)):
            if recorded != found:
                raise DataError(
                    f"{RECORD}: trial {index} of {algorithm}, seed {seed}, is {recorded:.80} there, and the results before it "
                    f"lead to {found:.80}: it was changed, or written by another version. Take another --workdir"
                )


def write(findings: Findings, workdir: epath.Path) -> None:
    """Writes the record; equal findings give equal text."""
    write_whole(workdir / RECORD, json.dumps(findings, indent=1) + "\n")


def _accuracy(value: object) -> Outcome:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN is not either
        raise ValueError(f"{value!r:.40} is no accuracy")
    return Outcome(float(value))
