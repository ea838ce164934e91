"""Reads the configuration for the launcher, and checks whether its step fits the slice.

A Python with the needed packages runs launch/lib/inspect_config.py and `python -m pipeline.plan`: that of the checkout's
.venv, or of a small environment below launch/.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pod.errors import TRAINING_ERROR, Refused
from pod.options import pairs

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_SUPPORTED = ("3.13", "3.12", "3.11")  # the Python versions of the pipeline


class CannotLoad(Refused):
    """No Python here can load a configuration."""


@dataclass(frozen=True)
class Configuration:
    """The values of a configuration that the launcher needs.

    Attributes:
      accelerator_type: the TPU type; "" if it names none.
      spot: whether it requests spot machines.
      batch_size: images in a step.
      duration: in the configuration's words.
    """

    accelerator_type: str
    spot: bool
    batch_size: int
    duration: str


def read(root: Path, config: str, overrides: Sequence[str]) -> Configuration:
    """Loads a configuration as the trainer does.

    Args:
      root: the root of the checkout.
      config: the configuration's absolute path.
      overrides: `--config.key=value`, byte for byte.

    Raises:
      Refused: the configuration cannot work; message and exit code are the trainer's.
    """
    command = [find_python(root), "launch/lib/inspect_config.py", f"--config={config}", *overrides]
    answer = subprocess.run(command, cwd=root, capture_output=True, stdin=subprocess.DEVNULL)
    if answer.returncode:
        raise Refused(_last_line(answer.stderr), answer.returncode)
    found = pairs(answer.stdout.decode().splitlines())
    return Configuration(
        accelerator_type=found.get("accelerator_type", ""),
        spot=found.get("spot") == "yes",
        batch_size=int(found.get("batch_size", 0)),
        duration=found.get("duration", ""),
    )


def check_batch(batch_size: int, devices: int, accelerator_type: str) -> None:
    """Raises Refused unless the batch divides over the devices."""
    if batch_size % devices:
        words = f"config.batch_size={batch_size} does not divide over the {devices} devices of {accelerator_type}"
        raise Refused(f"{words}; the next that does is {(batch_size // devices + 1) * devices}")


def find_python(root: Path) -> str:
    """Returns a Python that can load the configuration; creates an environment if the checkout has no .venv.

    Raises:
      CannotLoad: there is no supported Python, or the packages cannot be installed.
    """
    requirements = root / "requirements.txt"
    venv = root / ".venv"
    if _is_complete(venv, requirements.read_bytes()):
        return str(venv / "bin" / "python")
    lines = requirements.read_text(encoding="utf-8").splitlines(keepends=True)
    needed = "".join(line for line in lines if line.startswith(("ml_collections", "--")))
    venv = root / "launch" / ".venv"
    if not _is_complete(venv, needed.encode()):
        with _locked(venv.parent):
            if not _is_complete(venv, needed.encode()):  # another start may have made it meanwhile
                _install(venv, needed)
    return str(venv / "bin" / "python")


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None, None, None]:
    """Waits for other starts that do the same, where the file system has locks."""
    file = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_complete(venv: Path, requirements: bytes) -> bool:
    try:
        installed = (venv / "requirements.txt").read_bytes()
    except OSError:
        return False
    return (
        installed == requirements and os.access(venv / "bin" / "python", os.X_OK) and not (venv / "unfinished").exists()
    )


def _is_usable(python: str) -> bool:
    """Returns whether a command is a supported Python; the command may be a shim without a Python."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return answer.returncode == 0 and answer.stdout.strip() in _SUPPORTED


def _install(venv: Path, requirements: str) -> None:
    """Creates `venv`. The copy of the requirements is written last, so an interrupted installation is recognised."""
    candidates = [*(shutil.which(f"python{version}") for version in _SUPPORTED), sys.executable]
    python = next((found for found in candidates if found and _is_usable(found)), "")
    if not python:
        versions = ", ".join(reversed(_SUPPORTED))
        raise CannotLoad(
            f"loading the configuration needs Python {versions} with its venv module (Debian, Ubuntu: apt install "
            "python3-venv); install one, or run launch/local.sh once"
        )
    print("making launch/.venv, which loads the configuration (once)", file=sys.stderr)
    partial = venv / "requirements.partial"
    steps = [
        [python, "-m", "venv", "--clear", str(venv)],
        [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"],
    ]
    steps[1] += ["-r", str(partial)]
    for step in steps:
        if step is steps[1]:
            partial.write_text(requirements, encoding="utf-8")
        answer = subprocess.run(step, capture_output=True, stdin=subprocess.DEVNULL)
        if answer.returncode:
            raise CannotLoad(
                f"cannot install what loads the configuration: {_last_line(answer.stderr or answer.stdout)}"
            )
    partial.replace(venv / "requirements.txt")


def plan(root: Path, config: str, accelerator_type: str, data: str, overrides: Sequence[str]) -> tuple[bool, str]:
    """Asks the planner whether the step fits the slice and how long the run takes.

    Args:
      root: the root of the checkout.
      config: the configuration's path.
      accelerator_type: the slice's type.
      data: the location of the prepared datasets; "" for the configuration's own.
      overrides: `--config.key=value`.

    Returns:
      Whether there is a plan, and the plan, or the reason why there is none.

    Raises:
      Refused: the step does not fit.
    """
    python = find_python(root)
    probe = subprocess.run([python, "-c", "import jax, libtpu"], capture_output=True, stdin=subprocess.DEVNULL)
    if probe.returncode:
        return False, "that needs the TPU compiler; see docs/plan.md"
    words = "planning the run with the TPU compiler: a step that is not known yet takes up to half an hour"
    print(f"{words} (--no-plan leaves it out)", file=sys.stderr, flush=True)
    command = [python, "-m", "pipeline.plan", f"--config={config}", f"--topology={accelerator_type}"]
    location = [f"--config.data.data_dir={data}"] if data else []
    answer = _run_planner(root, [*command, *location, *overrides])
    # This machine may not be able to read the workers' data, and the planner knows the sizes of ImageNet without them.
    if data and answer.returncode not in (0, TRAINING_ERROR):
        answer = _run_planner(root, [*command, *overrides])
    text = answer.stdout.decode(errors="replace")
    if answer.returncode == TRAINING_ERROR:
        print(text, end="", file=sys.stderr)
        raise Refused(f"the plan says no: {_last_line(answer.stderr)}")
    if answer.returncode:  # for example an unknown dataset or slice
        return False, _last_line(answer.stderr)
    return True, text


def planned_hours(text: str) -> float:
    """Returns the hours of the whole run in a plan; 0 if it has none."""
    found = re.search(r"^ *whole run .* ([\d,]+\.\d) hours,", text, re.MULTILINE)
    return float(found[1].replace(",", "")) if found else 0.0


def _run_planner(root: Path, command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=root, capture_output=True, stdin=subprocess.DEVNULL)


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[-1]).strip() if lines else "no reason given"
