"""Parses the command line and launch/pod.env into the options of one call of tpu_pod.sh.

The order of precedence is option, gcloud's environment (CLOUDSDK_…), pod.env. Values are passed on byte for byte.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pod.errors import Refused
from pod.options import Options
from pod.services.service import FLEX_START, ON_DEMAND, RESERVED, SPOT
from pod.starting import settings

COMMANDS = ("up", "status", "logs", "ssh", "stop", "resume", "down", "simulate")

USAGE = """\
launch/tpu_pod.sh [up] --config FILE [options] [-- --config.key=value …]   run FILE on a slice until it is finished
launch/tpu_pod.sh status | logs | ssh | stop | resume | down | simulate  [--name N | --config FILE] [--worker I]

  --config FILE         configuration, tracked by git; names the run unless --name does
  --name N              name of the run, the slice and the folder below gs://BUCKET/runs
  --type T              TPU type, such as v3-128 or v5litepod-16 (default: config.launch.accelerator_type)
  --zone Z, --project P place (default: launch/pod.env, then gcloud's)
  --spot | --on-demand | --reserved | --flex-start   kind of capacity (default: config.launch.spot)
  --reservation R       the reservation to use (default with --reserved: any of the project's)
  --max-run-duration H  hours after which the service itself ends a --flex-start slice (default: the deadline)
  --valid-until H       hours that one request may wait before the service drops it (default: until the deadline)
  --workdir gs://…      folder of the run (default: gs://BUCKET/runs/NAME)
  --data gs://…         prepared datasets, read directly; with --mount through gcsfuse
  --env K, --env K=V    environment of the trainer, may be repeated; without V as it is here; values are never shown
  --secret K=projects/P/secrets/S/versions/V   the same from Secret Manager, read by the machines themselves
  --network N, --subnetwork N, --internal-ips   where the machines are; without external addresses
  --service-account A   the machines' account (default: Compute Engine's default one)
  --boot-disk-size GB   of each machine (default: the image's own)
  --max-restarts N      failures of the job that are answered by a restart (default 20); preemptions do not count, and
                        progress resets the count
  --deadline H          hours after which the job is stopped with a checkpoint and the slice deleted (default 168)
  --keep                leave the slice there when the run has ended
  --controller          let a small machine in the zone supervise the run, so that this one may be switched off
  --yes                 do not ask before the slice is requested
  --no-plan             do not compile the step for the slice first to see whether it fits and what the run costs
  --force               take over from a supervisor on another machine; with down: end the run although it has one
  --dry-run             print the commands of a run on which all goes well; needs no gcloud

status: step, top-1, time left, restarts, goodput, chip-hours      stop: save a checkpoint and end the job, keep the slice
logs: the end of the workers' logs     resume: the last `up` again     down: delete the slice     simulate: a preemption
"""


_OPTIONS = {option.name for option in dataclasses.fields(Options)}
# Option: the attribute that it sets, and the parser of its value.
_WITH_VALUE: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "--config": ("config", settings.text),
    "--name": ("name", settings.text),
    "--type": ("type", settings.text),
    "--zone": ("zone", settings.word),
    "--project": ("project", settings.word),
    "--workdir": ("workdir", settings.text),
    "--data": ("data", settings.text),
    "--env": ("environment", settings.text),
    "--secret": ("secrets", settings.text),
    "--reservation": ("reservation", settings.word),
    "--network": ("network", settings.word),
    "--subnetwork": ("subnetwork", settings.word),
    "--service-account": ("service_account", settings.word),
    "--boot-disk-size": ("boot_disk_gb", settings.whole),
    "--max-restarts": ("max_restarts", settings.whole),
    "--worker": ("worker", settings.whole),
    "--deadline": ("deadline_hours", settings.hours),
    "--valid-until": ("valid_until_hours", settings.hours),
    "--max-run-duration": ("max_run_hours", settings.hours),
}
_SWITCHES: dict[str, tuple[str, Any]] = {
    "--spot": ("provisioning", SPOT),
    "--on-demand": ("provisioning", ON_DEMAND),
    "--reserved": ("provisioning", RESERVED),
    "--flex-start": ("provisioning", FLEX_START),
    "--mount": ("mount", True),
    "--internal-ips": ("internal_ips", True),
    "--dry-run": ("dry_run", True),
    "--yes": ("yes", True),
    "--keep": ("keep", True),
    "--force": ("force", True),
    "--controller": ("controller", True),
    "--no-plan": ("plan", False),
}


class HelpAsked(Exception):
    """The user wants to see the usage."""


def parse(
    arguments: Sequence[str], environment: Mapping[str, str], settings_file: Path, folder: Path, root: Path
) -> Options:
    """Returns the options of one call.

    Args:
      arguments: the arguments after `tpu_pod.sh`.
      environment: the environment of the process.
      settings_file: launch/pod.env; it need not exist.
      folder: the user's folder, for relative paths.
      root: the root of this checkout.

    Raises:
      Refused: the options cannot work; the message is one line.
      HelpAsked: `--help` was given.
    """
    options = Options()
    given = _read_arguments(list(arguments), options)
    options.set_by_user = sorted(given)
    from_settings = settings.read_settings(settings_file)
    in_environment = {"project": "CLOUDSDK_CORE_PROJECT", "zone": "CLOUDSDK_COMPUTE_ZONE"}
    for name, variable in in_environment.items():
        if name not in given and environment.get(variable):
            setattr(options, name, environment[variable])
            given.add(name)
    for name, value in from_settings.items():
        if name not in given and name in _OPTIONS:
            setattr(options, name, value)
    bounds = {name: value for name, value in from_settings.items() if name not in _OPTIONS}
    options.limits = dataclasses.replace(options.limits, **bounds)
    options.environment = [_with_value(entry, environment) for entry in options.environment]
    _complete(options, folder, root)
    return options


def resolve_path(path: str, folder: Path, root: Path) -> str:
    """Returns an absolute path: relative to the user's folder if it exists there, else to the repository.

    A configuration may have an argument after a colon; the file is the part before it.
    """
    if path.startswith("/") or "://" in path:
        return path
    first = path.split(":")[0]
    base = root if not (folder / first).exists() and (root / first).exists() else folder
    return os.path.normpath(base / path) if ":" not in path else f"{os.path.normpath(base / first)}{path[len(first) :]}"


def _read_arguments(arguments: list[str], options: Options) -> set[str]:
    """Sets the attributes of the command line's options, and returns their names."""
    given: set[str] = set()
    if arguments and not arguments[0].startswith("-"):
        options.command = arguments.pop(0)
        if options.command == "help":
            raise HelpAsked
        if options.command not in COMMANDS:
            raise Refused(f"unknown command {options.command}; see tpu_pod.sh --help")
    while arguments:
        word = arguments.pop(0)
        if word == "--":
            options.overrides += arguments
            break
        if word.startswith("--config.") and "=" in word:
            options.overrides.append(word)
            continue
        option, equals, value = word.partition("=")
        if word in ("--help", "-h"):
            raise HelpAsked
        if option in _SWITCHES and not equals:
            name, setting = _SWITCHES[option]
            setattr(options, name, setting)
        elif option in _WITH_VALUE:
            if not equals:
                if not arguments:
                    raise Refused(f"{option} needs a value")
                value = arguments.pop(0)
            name, read = _WITH_VALUE[option]
            if name in ("environment", "secrets"):
                getattr(options, name).append(value)
            else:
                setattr(options, name, read(option, value))
        else:
            hint = "overrides such as --config.key=value may stand after --"
            raise Refused(f"unknown option {option}; {hint}; see tpu_pod.sh --help")
        given.add(name)
    return given


def _with_value(entry: str, environment: Mapping[str, str]) -> str:
    """Returns NAME=value; the value of a bare NAME comes from the launcher's environment."""
    if not re.match(r"[A-Za-z_][A-Za-z0-9_]*(=|$)", entry) or "\0" in entry:
        raise Refused("--env: expected NAME=value, or NAME")  # does not show the value, which may be a secret
    if "=" in entry:
        return entry
    if entry not in environment:
        raise Refused(f"--env {entry}: there is no such variable here; export it, or give {entry}=value")
    return f"{entry}={environment[entry]}"


_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=projects/[^/]+/secrets/[^/]+(/versions/[^/]+)?")


def _complete(options: Options, folder: Path, root: Path) -> None:
    """Derives the remaining options, and refuses those that cannot work."""
    options.workdir = options.workdir.rstrip("/")
    options.bucket = options.bucket.replace("gs://", "", 1).rstrip("/")
    if options.config:
        options.config = resolve_path(options.config, folder, root)
        file = Path(options.config.split(":")[0])
        if not file.exists():
            raise Refused(f"--config={options.config}: there is no such file")
        options.name = options.name or file.stem.replace("_", "-")
    if not options.name:
        raise Refused("name the run with --name, or its configuration with --config")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", options.name):
        expected = "expected lower-case letters, digits and hyphens, at most 40, beginning with a letter"
        raise Refused(f"--name={options.name}: {expected}")
    for entry in options.secrets:
        if not _SECRET.fullmatch(entry):
            raise Refused(f"--secret={entry}: expected NAME=projects/PROJECT/secrets/SECRET/versions/VERSION")
    if options.mount and not re.match(r"gs://[^/]", options.data):
        raise Refused("--mount needs --data gs://…")
    if options.reservation and options.provisioning not in ("", RESERVED):
        raise Refused(f"--reservation and --{options.provisioning} are two ways to have a slice; give one of them")
    if options.reservation:
        options.provisioning = RESERVED
    if options.max_run_hours and options.provisioning != FLEX_START:
        raise Refused("--max-run-duration is for --flex-start; any other slice is ended by --deadline")
    if options.workdir and not re.match(r"gs://[^/]|/", options.workdir):
        raise Refused(f"--workdir={options.workdir}: expected gs://…, or an absolute path that all workers share")
