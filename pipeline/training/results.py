"""What a finished run leaves behind: `results.json`, the curves, and the last lines on the console.

`results.json` is written last and atomically, so it marks the run as finished. It also identifies the run.
"""

import json
from collections.abc import Callable

import jax
from etils import epath

from pipeline.errors import DataError
from pipeline.host.paths import command_line
from pipeline.host.whole_files import write_whole
from pipeline.reporting import figures

_EXPORT = ("--format", "weights,onnx", "--out", "exported")  # formats whose packages are all installed
Results = dict[str, dict[str, float]]  # metrics by weights, "ema" and "raw"


def read_results(workdir: str, total_steps: int) -> tuple[Results, dict] | None:
    """Returns the final evaluation and the metadata of a run that has finished after `total_steps` steps, else None.

    The metadata identify the run: "config", and "data", the fingerprint of its training data.

    Raises:
      DataError: the file is damaged.
    """
    path = epath.Path(workdir) / "results.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        return (content["evaluation"], content) if content["step"] == total_steps else None
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}). Delete it, and the same command writes it again from the "
            "last checkpoint"
        ) from error


def write_results(workdir: str, total_steps: int, results: Results, events: list[dict], metadata: dict) -> None:
    """Writes the curves of the run's events, and its final evaluation with "config" and "data" of its metadata."""
    if jax.process_index() == 0:
        figures.write_curves(f"{workdir}/curves.png", events)
        content = {"step": total_steps, "evaluation": results, "config": metadata["config"], "data": metadata["data"]}
        write_whole(epath.Path(workdir) / "results.json", json.dumps(content, indent=1) + "\n")


def log_results(log: Callable[[str], None], results: Results, workdir: str, num_eval_examples: int) -> None:
    """Prints the accuracy, the number of examples, where everything is, and what to do next."""
    for weights, values in results.items():
        damaged = num_eval_examples - values["examples"]
        counted = f"{values['examples']:,} of {num_eval_examples:,}" if damaged else f"all {num_eval_examples:,}"
        log(
            f"Test accuracy with {weights} weights: {values['top1']:.2%} top-1, {values['top5']:.2%} top-5, "
            f"on {counted} examples{f'; {damaged:,} could not be decoded and are left out' if damaged else ''}."
        )
    log(
        f"Results are in {workdir}: results.json, curves.png, input_preview.png, metrics.jsonl, checkpoints/, best/.\n"
        f"Look closer:   {command_line('-m', 'tensorboard.main', '--logdir', workdir)}\n"
        f"Take it along: {command_line('-m', 'pipeline.export', '--workdir', workdir, *_EXPORT)}"
    )
