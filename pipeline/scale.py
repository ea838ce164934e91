"""Finds by training how a network should be scaled, and compares that with scaling one dimension alone.

python -m pipeline.scale --config configs/scale_fashion_mnist.py --workdir DIRECTORY [--cost macs|cycles|latency] [--parallel N]
python -m pipeline.scale --quick --workdir DIRECTORY                  (a small study of digits, in ten minutes)
python -m pipeline.scale --config FILE --workdir gs://… --launch      (prints a command of launch/tpu_pod.sh for each run)

The command first trains a grid of coefficients, with every candidate brought to the same true cost. Then it scales depth,
width, resolution and all three together to several budgets and trains each network with several seeds. Every trial is a run
of `pipeline.train` in its own folder below --workdir. Repeating a stopped command continues the study and trains nothing
twice. The results are scaling.json, scaling.txt, scaling.png and maps.png.
"""

import collections
import functools
import os

from etils import epath

from configs import recipe, scale
from pipeline import command
from pipeline.host import locking
from pipeline.host.announcing import announce
from pipeline.scaling.study import Study
from pipeline.trials import command_line, identity

_FLAGS = command_line.StudyFlags.define("configs.scale_digits", cost_for="The cost to equalize")
_LOCK, _JSON, _TEXT, _FIGURE, _MAPS = "scale.lock", "scaling.json", "scaling.txt", "scaling.png", "maps.png"


def main() -> None:
    study = Study.from_config(_FLAGS.config(), _FLAGS.cost)
    workdir = _FLAGS.workdir()
    machine = _FLAGS.machine(dict(os.environ))  # copied before the costs change this process's
    announce("Opening the data", "5 seconds")

    from pipeline.scaling.investigation import Investigation
    from pipeline.trials.costs import cost_of

    sizes = command_line.open_data(study.train_config)
    with locking.held(f"{workdir}/{_LOCK}"):
        identity.continue_in(study.identity(), workdir, {"study": scale, "train": recipe})
        train = functools.partial(_print_commands, study, workdir)
        if not _FLAGS.launch:
            train = functools.partial(_train_here, study, workdir, machine)
        cost = cost_of(study.cost, study.train_config, workdir, sizes)
        investigation = Investigation(study, workdir, cost, sizes.num_classes, train)
        _report(investigation.findings(), study, workdir)


def _train_here(study: Study, workdir: epath.Path, machine, trials) -> None:
    from pipeline.trials import running

    overrides = tuple(study.config.overrides)

    def arguments(trial) -> list[str]:
        return [
            f"--config={study.config.train}",
            f"--workdir={trial.workdir(workdir)}",
            *trial.overrides(overrides),
        ]

    waiting, numbers = collections.deque(trials), {trial: number for number, trial in enumerate(trials, 1)}

    def take():
        return waiting.popleft() if waiting else None

    def say(trial, how: str) -> None:
        print(f"[{numbers[trial]}/{len(trials)}] {how}", flush=True)

    print(f"{len(trials)} trials to train, each below {workdir}", flush=True)
    running.run_all(take, workdir, arguments, machine, say)


def _print_commands(study: Study, workdir: epath.Path, trials) -> None:
    from pipeline.trials import launching

    for line in launching.lines(trials, workdir, study.config.train, lambda _: tuple(study.config.overrides), "scale"):
        print(line)
    raise SystemExit(0)  # once the runs are finished, the same command continues


def _report(findings, study: Study, workdir: epath.Path) -> None:
    from pipeline.host.whole_files import write_whole
    from pipeline.reporting.figures import write_image
    from pipeline.scaling import report
    from pipeline.scaling.investigation import as_json

    text = report.text(findings)
    write_whole(workdir / _TEXT, text)
    write_image(f"{workdir}/{_FIGURE}", report.figure(findings))
    written = [_TEXT, _FIGURE, _JSON]
    if study.config.maps:
        announce("Drawing class-activation maps", "a minute")
        from pipeline.scaling import maps

        write_image(f"{workdir}/{_MAPS}", maps.draw(findings, study, workdir))
        written.insert(0, _MAPS)
    write_whole(workdir / _JSON, as_json(findings))  # written last, as it marks the study as finished
    print(f"\n{text}\nWrote {', '.join(written)} in {workdir}")


if __name__ == "__main__":
    command.run(main, structure=scale)
