"""A checkout made of the launch scripts and a stand-in trainer: the scripts are tried without the real packages.

Owns the stand-ins: a requirements file that installs one empty local package, and a `pipeline.train` that tells how
it was called. Never reaches the network.
"""

import shutil
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

RECORDING_TRAINER = '''
"""Prints its arguments, folder, interpreter, process id and JAX variables as one JSON line."""
import json, os, sys
json.dump(
    {
        "argv": sys.argv[1:],
        "cwd": os.getcwd(),
        "executable": sys.executable,
        "pid": os.getpid(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS"),
    },
    sys.stdout,
)
'''


def build_wheel(folder: Path, name: str, version: str) -> None:
    """Writes a wheel that holds one module, `name`.py, with its version in VERSION."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space in its name that holds launch/, configs/, a one-package requirements.txt and a trainer."""
    root = tmp_path / "a checkout"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        build_wheel(wheels, "feather", version)
    shutil.copytree(REPOSITORY / "launch", root / "launch", ignore=shutil.ignore_patterns("pod.env", ".venv"))
    for package in ("configs", "pipeline"):
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    (root / "configs" / "quickstart.py").touch()
    (root / "pipeline" / "train.py").write_text(RECORDING_TRAINER)
    (root / "requirements.txt").write_text(f"--no-index\n--find-links {wheels}\nfeather==1.0\n")
    return root


@pytest.fixture
def make_cloud(tmp_path: Path, request):
    """Makes a user's machine and a loopback cloud; takes the trainer, "stub_trainer" or "real".

    However the test ends, what runs is ended. A slice may never have been ready for longer than the bound without a job, and
    never two of them with one.
    """
    from cloud.bed import Cloud

    made = []

    def make(trainer: str = "stub_trainer") -> Cloud:
        made.append(Cloud(tmp_path, trainer))
        return made[-1]

    try:
        yield make
        for cloud in made:
            if getattr(request.node, "failed", False):
                print(cloud.output(), cloud.logs(), sep="\n")
    finally:
        for cloud in made:
            cloud.close()
    for cloud in made:
        assert cloud.meter.longest_idle < cloud.bound
        assert cloud.meter.most_at_once <= 1


@pytest.fixture
def cloud(make_cloud):
    """A user's machine and a loopback cloud with the stand-in trainer."""
    return make_cloud()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers for the fixtures that a test failed."""
    report = yield
    if report.when == "call" and report.failed:
        item.failed = True
    return report
