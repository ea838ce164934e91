"""Searches a baseline: networks around a given one, weighed by accuracy and cost, found by evolution and by random search.

python -m pipeline.search --config configs/search_fashion_mnist.py --workdir DIRECTORY [--cost cycles] [--parallel N]
python -m pipeline.search --quick --workdir DIRECTORY                (a small search on digits, in ten minutes)
python -m pipeline.search --config FILE --workdir gs://… --launch    (prints a command of launch/tpu_pod.sh for each run)

Every trial is a run of `pipeline.train` in its own folder below --workdir, on a part of the training split, and judged by the
rest. Repeating a stopped command continues the search and trains nothing twice. The results are search.json, search.txt,
search.png and winner.json, which `--config.model.variant` and the baselines of `pipeline.scale` take.
"""

import os

from etils import epath

from configs import recipe, search
from pipeline import command
from pipeline.errors import MachineError, TrainingError
from pipeline.host import locking
from pipeline.host.announcing import announce
from pipeline.search.study import Study
from pipeline.trials import command_line, identity

_FLAGS = command_line.StudyFlags.define("configs.search_digits", cost_for="The cost to weigh accuracy against")
_LOCK, _TEXT, _FIGURE, _WINNER = "search.lock", "search.txt", "search.png", "winner.json"


def main() -> None:
    study = Study.from_config(_FLAGS.config(), _FLAGS.cost)
    workdir = _FLAGS.workdir()
    machine = _FLAGS.machine(dict(os.environ))  # copied before the costs change this process's
    print(f"{study.space.size:,} networks in the space around {study.space.baseline}", flush=True)
    announce("Opening the data", "5 seconds")
    sizes = command_line.open_data(study.train_config)
    with locking.held(f"{workdir}/{_LOCK}"):
        identity.continue_in(study.identity(), workdir, {"search": search, "train": recipe})
        state, record = _begin(study, workdir, sizes)
        for course in state.courses:
            record.check(course.algorithm, course.seed, list(map(str, course.proposed)))
        if _FLAGS.launch:
            _print_commands(state, study, workdir)
        else:
            _train_here(state, study, workdir, machine)
        _report(state, study, workdir)


def _begin(study: Study, workdir: epath.Path, sizes):
    """Returns the search as far as it has come, and the record of it."""
    from pipeline.search.judging import Judge
    from pipeline.search.known import Known
    from pipeline.search.progress import Search
    from pipeline.search.record import Record
    from pipeline.trials import compile_process
    from pipeline.trials.costs import cost_of
    from pipeline.trials.trials import Trial

    def limited(_):
        proxy = study.overrides(Trial(study.space.baseline, study.train_config.seed))
        return compile_process.limited(study.config.train, proxy, sizes, study.config.limits.compile_minutes)

    record = Record.read(workdir, study.train_config.seed)
    cost = cost_of(study.cost, study.train_config, workdir, sizes, compiled_within=limited)
    counted = study.cost == "macs"
    judge = Judge.of(study.config, study.space.baseline, cost, sizes.num_classes, counted)
    state = Search(study, judge, Known(record, workdir))
    state.advance()
    return state, record


def _train_here(state, study: Study, workdir: epath.Path, machine) -> None:
    from pipeline.search import record
    from pipeline.trials import running

    def arguments(trial) -> list[str]:
        return [
            f"--config={study.config.train}",
            f"--workdir={trial.workdir(workdir)}",
            *trial.overrides(study.overrides(trial)),
        ]

    def ended(trial, how: str) -> None:
        print(f"{trial.group}: {how}", flush=True)
        record.write(state.findings(), workdir)

    running.run_all(state.take, workdir, arguments, machine, ended, fails=_is_its_own)


def _is_its_own(error: Exception) -> bool:
    """Returns whether another network can do better: the loss was not finite, or the memory did not suffice."""
    return isinstance(error, TrainingError) or (isinstance(error, MachineError) and "no memory left" in str(error))


def _print_commands(state, study: Study, workdir: epath.Path) -> None:
    from pipeline.trials import launching

    trials = list(iter(state.take, None))
    for line in launching.lines(trials, workdir, study.config.train, study.overrides, "search"):
        print(line)
    if trials:
        raise SystemExit(0)  # once the runs are finished, the same command continues


def _report(state, study: Study, workdir: epath.Path) -> None:
    from pipeline.host.whole_files import write_whole
    from pipeline.model import notation, table_file
    from pipeline.reporting.figures import write_image
    from pipeline.search import record, report

    winner, findings = state.winner(), state.findings()
    row, _, stages = winner.name.partition(notation.SEPARATOR)
    scaled = {"depth": winner.depth, "width": winner.width, "resolution": winner.resolution}
    write_whole(workdir / _WINNER, table_file.write(row, notation.read(stages), **scaled))
    said = report.text(findings)
    write_whole(workdir / _TEXT, said)
    write_image(f"{workdir}/{_FIGURE}", report.figure(findings))
    record.write(findings, workdir)  # written last, as it says that the search is finished
    print(f"\n{said}\nWrote {_WINNER}, {_TEXT}, {_FIGURE}, {record.RECORD} in {workdir}")


if __name__ == "__main__":
    command.run(main, structure=search)
