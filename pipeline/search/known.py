"""What is known of the trials: outcomes in the record of an earlier start, and in the folders of trials that have ended."""

from etils import epath

from pipeline.search.record import Record
from pipeline.trials.trials import Outcome, Trial, outcome


class Known:
    """Reads outcomes, each once."""

    def __init__(self, record: Record, workdir: epath.Path):
        self._record, self._workdir = record, workdir
        self._found: dict[Trial, Outcome] = {}

    def __call__(self, trial: Trial) -> Outcome | None:
        """Returns how a trial ended; None if it has not ended.

        Raises:
          DataError: the files of its folder cannot be read.
        """
        if trial not in self._found:
            recorded = self._record.outcomes.get((trial.group, str(trial.variant), trial.seed))
            found = recorded or outcome(trial, self._workdir)
            if found is None:
                return None
            self._found[trial] = found
        return self._found[trial]
