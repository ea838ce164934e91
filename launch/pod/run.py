"""Describes one run: the trainer's arguments, the folder of the control plane, and the identity of the job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pod.checkout import relative_config
from pod.errors import Refused
from pod.options import Options

CONTROL_FOLDER = "pod"


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
      name: the name of the run, its slice and its folder.
      workdir: the trainer's directory: gs://…, or an absolute path that all workers share.
      control: gs://… of the control plane.
      arguments: the arguments of `python -m pipeline.train`, byte for byte.
      key: the identity of the job: a hash of its arguments, and of the names (never the values) of its environment.
      mount: a bucket that the workers mount; "" for none.
    """

    name: str
    workdir: str
    control: str
    arguments: tuple[str, ...]
    key: str
    mount: str


def workdir_of(options: Options) -> str:
    """Returns the run's folder; "" if neither --workdir nor BUCKET is given."""
    return options.workdir or (f"gs://{options.bucket}/runs/{options.name}" if options.bucket else "")


def control_of(options: Options) -> str:
    """Returns the control plane's folder; "" if no bucket is given."""
    workdir = workdir_of(options)
    if workdir.startswith("gs://"):
        return f"{workdir}/{CONTROL_FOLDER}"
    return f"gs://{options.bucket}/runs/{options.name}/{CONTROL_FOLDER}" if options.bucket else ""


def make_run(options: Options, root: Path) -> Run:
    """Returns the run that the options describe.

    Raises:
      Refused: an option is missing, or the workers would not get the configuration.
    """
    if not options.config:
        raise Refused("name the configuration with --config")
    workdir, control = workdir_of(options), control_of(options)
    if not workdir:
        raise Refused("where does the run go? Give --workdir gs://…, or write BUCKET into launch/pod.env")
    if not control:
        raise Refused(
            f"--workdir={workdir}: what the machines tell needs a bucket too: write BUCKET into launch/pod.env"
        )
    # State the platform: on a worker without a visible TPU, JAX would train on the CPU, alone in the others' folder.
    arguments = [f"--config={relative_config(options.config, root)}", f"--workdir={workdir}", "--config.platform=tpu"]
    mount = ""
    if options.mount:
        mount, _, rest = options.data[len("gs://") :].partition("/")
        arguments.append(f"--config.data.data_dir=../data{'/' if rest else ''}{rest}")  # beside the code
    elif options.data:
        arguments.append(f"--config.data.data_dir={options.data}")
    arguments += options.overrides
    for argument in arguments:
        if "\0" in argument:
            raise Refused("an override holds a zero byte, which no command line can carry")
    names = sorted(entry.partition("=")[0] for entry in options.environment + options.secrets)
    key = hashlib.sha256(json.dumps([arguments, names]).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return Run(options.name, workdir, control, tuple(arguments), key, mount)
