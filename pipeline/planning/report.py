"""Formats a plan as text and as JSON."""

import dataclasses

from pipeline.configuration.hyperparameters import Hyperparameters
from pipeline.planning import storage
from pipeline.planning.estimate import Estimate, mean_over_run
from pipeline.planning.program import Program
from pipeline.planning.slices import GIB, Slice


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of one configuration on one slice; `estimate` is None if it does not fit.

    Attributes:
      stages: The train step of each stage, in order.
    """

    tpu_slice: Slice
    hparams: Hyperparameters
    stages: list[Program]
    evaluation: Program
    estimate: Estimate | None

    @property
    def train(self) -> Program:
        """The train step that needs most memory."""
        return max(self.stages, key=lambda program: program.memory)

    @property
    def fits(self) -> bool:
        """Whether all steps fit the memory of a device."""
        return all(program.fits for program in (*self.stages, self.evaluation))

    @property
    def cycles_per_image(self) -> float:
        """The compiler's cycles for an image on its device, as a mean over the run."""
        cycles = mean_over_run([program.cycles for program in self.stages], self.hparams)
        return cycles / (self.hparams.batch_size // self.tpu_slice.devices)


def describe(plan: Plan) -> str:
    """Returns a plan as lines of text."""
    tpu_slice, hparams = plan.tpu_slice, plan.hparams
    lines = [
        f"{tpu_slice.name}: {tpu_slice.chips} chips, {tpu_slice.hosts} host(s), {tpu_slice.devices} devices with "
        f"{hparams.batch_size // tpu_slice.devices} images each, {hparams.image_size} px",
        _memory("train step", plan.train),
        _memory("evaluation", plan.evaluation),
    ]
    for program in (plan.train, plan.evaluation):
        if not program.fits:
            lines += [f"    {_gib(size)}  {name}" for name, size in program.largest]
    if plan.estimate is None:
        return "\n".join(lines)
    estimate, train = plan.estimate, plan.train
    shares = ", ".join(f"{kind.replace('_', ' ')} {_share(part, train.cycles)}" for kind, part in _kinds(train))
    counts = ", ".join(f"{number} {name}" for name, number in train.collectives.items()) or "none"
    lines += [
        *_stage_lines(plan),
        f"  work          {plan.cycles_per_image / 1e6:.3f} million cycles an image: {shares}",
        f"  collectives   {counts}, {train.collective_bytes / 1e6:,.1f} MB a step, "
        f"{_share(estimate.collectives, estimate.step)} of its time",
        f"  speed         {estimate.images_per_second:,.0f} images/s, {estimate.images_per_second_per_chip:,.0f} a chip, "
        f"{estimate.step * 1e3:,.1f} ms a step",
        f"  input         {estimate.cpus_per_host:.0f} busy CPU cores on each host, of {tpu_slice.generation.host_cpus} "
        "virtual ones",
        f"  whole run     {hparams.total_steps:,} steps with evaluations of {estimate.evaluation:,.0f} s: "
        f"{estimate.hours:,.1f} hours, {estimate.chip_hours:,.0f} chip-hours, {estimate.dollars:,.0f} dollars",
        f"  data          {storage.describe(storage.reading(hparams, tpu_slice.hosts))}",
    ]
    return "\n".join(lines)


def comparison(plans: list[Plan]) -> str:
    """Returns plans as a Markdown table with a row for each slice; what does not fit has no speed."""
    head = (
        "slice", "images on each device", "train step", "evaluation", "million cycles an image", "images/s", "hours",
        "chip-hours", "dollars",
    )  # fmt: skip
    rows = [head, ("---",) * len(head), *map(_row, plans)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_json(plan: Plan) -> dict:
    """Returns a plan as JSON values; sizes in bytes, times in seconds unless the name says otherwise."""
    return {
        "topology": plan.tpu_slice.name,
        "chips": plan.tpu_slice.chips,
        "hosts": plan.tpu_slice.hosts,
        "devices": plan.tpu_slice.devices,
        "batch_size": plan.hparams.batch_size,
        "image_size": plan.hparams.image_size,
        "fits": plan.fits,
        "train": dataclasses.asdict(plan.train),
        "stages": [
            {**dataclasses.asdict(stage), "cycles": program.cycles, "memory": program.memory}
            for stage, program in zip(plan.hparams.stages, plan.stages, strict=True)
        ],
        "evaluation": dataclasses.asdict(plan.evaluation),
        "estimate": dataclasses.asdict(plan.estimate) if plan.estimate else None,
        "data": dataclasses.asdict(storage.reading(plan.hparams, plan.tpu_slice.hosts)),
    }


def shortfall(plan: Plan) -> str:
    """Returns a sentence on how much memory a plan that does not fit lacks."""
    what, program = ("train step", plan.train) if not plan.train.fits else ("evaluation", plan.evaluation)
    missing = program.memory - program.memory_limit
    return (
        f"the {what} does not fit {plan.tpu_slice.name}: it takes {_gib(program.memory)} of "
        f"{_gib(program.memory_limit)} a device, {_gib(missing)} too much"
    )


def _row(plan: Plan) -> tuple[str, ...]:
    per_device = plan.hparams.batch_size // plan.tpu_slice.devices
    memory = [_of_limit(program) for program in (plan.train, plan.evaluation)]
    work = f"{plan.cycles_per_image / 1e6:.3f}" if plan.train.fits else "-"
    speed = ("-",) * 4
    if found := plan.estimate:
        numbers = (found.images_per_second, found.hours, found.chip_hours, found.dollars)
        speed = tuple(f"{number:,.0f}" if number >= 100 else f"{number:.1f}" for number in numbers)
    return plan.tpu_slice.name, f"{per_device}", *memory, work, *speed


def _stage_lines(plan: Plan) -> list[str]:
    """Returns a line for each of several stages: its share of the steps, and its cost an image relative to the last stage."""
    stages, last = plan.hparams.stages, plan.stages[-1]
    starts = [0, *(stage.end_step for stage in stages)]
    return [
        f"  stage {number:<2}      {stage.end_step - start:,} steps at {stage.image_size} px: {_gib(program.memory)} a device, "
        f"{program.cycles / last.cycles:.3f} of the last stage's cycles"
        for number, (start, stage, program) in enumerate(zip(starts, stages, plan.stages), 1)
        if len(stages) > 1
    ]


def _of_limit(program: Program) -> str:
    words = f"{program.memory / GIB:.2f} of {program.memory_limit / GIB:.4g} GiB"
    return words if program.fits else f"{words}: does not fit"


def _memory(what: str, program: Program) -> str:
    verdict = "fits" if program.fits else "DOES NOT FIT"
    return f"  {what:12}  {verdict}: {_gib(program.memory)} of {_gib(program.memory_limit)} a device"


def _kinds(program: Program) -> list[tuple[str, int]]:
    return sorted(program.cycles_by_kind.items(), key=lambda item: -item[1])


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
