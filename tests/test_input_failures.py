"""What a user can type or have on disk, and what each command says of it: one line, a code, and nothing left behind.

The list has a case of every kind. Kinds with many forms have a test of their own for all of them: values of the configuration
(`test_domains.py`), workdirs (`test_workdir.py`), image folders (`data/preparation/test_image_folder.py`), datasets
(`data/test_sources.py`, `test_damaged_files.py`), weight files (`weights/test_file_contents.py`, `test_stated_values.py`,
`test_torch_files.py`, and 2,000 mutations in `test_fuzzing.py`), images (`data/test_images.py`, 2,000 mutations in
`test_mutated_jpegs.py`), slices (`planning/test_plan.py`), buckets (`storage/test_objects.py`); what happens to a run that is
going on is in `test_failures_of_runs.py`.
"""

import os
import pathlib
import re
import shlex
import shutil

import cv2
import h5py
import numpy as np
import pytest

from pipeline.data.preparation.datasets import prepare_digits
from pipeline.weights import directory, official, timm
from pipeline.weights.keras_network import build_keras
from tests import forks
from tests.data.preparation.making import tfrecord_dataset
from tests.weights import torch_samples
from tests.weights.samples import random_weights, write_keras_2

TRAIN = "train --config=configs/quickstart.py --workdir={new}/run --config.data.data_dir={disk}/data"
EVALUATE = "evaluate --config=configs/quickstart.py --config.data.data_dir={disk}/data"
PREDICT = "predict --weights={disk}/good"
EXPORT = "export --weights={disk}/good --out={new}/out"
PLAN = "plan --config=configs/quickstart.py"
PREVIEW = "preview --config=configs/quickstart.py"

TYPED = [
    # The configuration.
    ("train --workdir={new}/run", 78, "--config is missing"),
    ("train --config= --workdir={new}/run", 78, "--config"),
    ("train --config=no/such.py --workdir={new}/run", 78, "No such file or directory: 'no/such.py'"),
    ("train --config=configs --workdir={new}/run", 78, "--config"),
    ("train --config=README.md --workdir={new}/run", 78, "README.md"),
    ("train --config={disk}/syntax.py --workdir={new}/run", 78, "SyntaxError"),
    ("train --config={disk}/raises.py --workdir={new}/run", 78, "ZeroDivisionError"),
    ("train --config={disk}/imports.py --workdir={new}/run", 78, "No module named 'nothing_of_this_name'"),
    ("train --config={disk}/no_function.py --workdir={new}/run", 78, "get_config"),
    ("train --config={disk}/number.py --workdir={new}/run", 78, "--config"),
    ("train --config={disk}/other_keys.py --workdir={new}/run", 78, "does not fit configs/recipe.py"),
    (f"{TRAIN} --config.batchsize=1", 78, "did you mean --config.batch_size?"),
    (f"{TRAIN} --config.batch_size=many", 78, "batch_size"),
    (f"{TRAIN} --config.data.mean_rgb=(1,", 78, "mean_rgb"),
    (f"{TRAIN} --config.seed=-1", 78, "config.seed is -1"),
    (f"{TRAIN} --config.batch_size=30", 78, "multiple of the 8 devices"),
    (f"{TRAIN} --config.model.variant=b99", 78, "b99"),
    (f"{TRAIN} --config.duration=soon", 78, "config.duration is 'soon'"),
    (f"{TRAIN} --config.duration='2 steps'", 78, "config.schedule.warmup"),
    (f"{TRAIN} --config.virtual_devices=0", 78, "config.virtual_devices is 0"),
    # Flags, and words where none belong.
    (f"{TRAIN} --no_such_flag", 78, "Unknown command line flag 'no_such_flag'"),
    (f"{TRAIN} and more", 78, "unexpected argument 'and'"),
    (f"{TRAIN} --verbosity=loud", 78, "verbosity"),
    (f"{TRAIN} --process_count=2", 78, "process_index"),
    (f"{TRAIN} --coordinator_address=here --process_count=2 --process_index=0", 78, "expected host:port"),
    (f"{TRAIN} --process_count=two", 78, "process_count"),
    # Directories.
    ("train --config=configs/quickstart.py", 78, "--workdir is missing"),
    ("train --config=configs/quickstart.py --workdir={disk}/image.png", 78, "File exists"),
    ("train --config=configs/quickstart.py --workdir=/proc/nothing", 78, "/proc/nothing"),
    ("train --config=configs/quickstart.py --workdir=s3://bucket/run", 78, "gs://BUCKET/FOLDER"),
    ("train --config=configs/quickstart.py --workdir=gs://bucket/../run", 78, "gs://BUCKET/FOLDER"),
    ("train --config=configs/quickstart.py --workdir='{new}/back\\slash'", 78, "backslash"),
    ("train --config=configs/quickstart.py --workdir=~nobody_of_this_name/run", 78, "no home directory"),
    ("evaluate --config=configs/quickstart.py --weights={disk}/good --out={disk}/image.png/x", 78, "Not a directory"),
    # Datasets.
    (f"{TRAIN} --config.data.name=nothing", 65, "No prepared dataset 'nothing'"),
    (f"{TRAIN} --config.data.name=../digits", 65, "names no dataset"),
    (f"{TRAIN} --config.data.name=digits:9.9.9", 65, "found: 1.0.0"),
    (f"{TRAIN} --config.data.train_split=training", 65, "has no split 'training'"),
    (f"{TRAIN} --config.data.train_split=train[:0]", 65, "it is empty"),
    (f"{TRAIN} --config.data.eval_split=test[", 65, "test["),
    (f"{TRAIN} --config.init_from=/no/such/weights", 65, "/no/such/weights does not exist"),
    (f"{TRAIN} --config.init_from=~nobody_of_this_name/weights", 78, "no home directory"),
    (f"{TRAIN} --config.finetune.frozen_stages=9", 78, "config.finetune.frozen_stages=9"),
    ("prepare", 78, "--dataset NAME"),
    ("prepare --dataset=no_such_set --data_dir={new}/data", 78, "tfds has no such dataset"),
    ("prepare --dataset=fake_imagenet --examples=1 --data_dir={new}/data", 78, "--examples=1"),
    ("prepare --dataset=digits --data_dir={disk}/image.png", 71, "image.png"),
    ("prepare --dataset=digits --data_dir=s3://bucket/data", 78, "gs://BUCKET/FOLDER"),
    ("prepare --dataset=digits --data_dir={disk}/data", 65, "already holds a finished dataset"),
    ("prepare --image_folder={disk}/nothing --name=x --data_dir={new}/data", 65, "is not a folder"),
    ("prepare --image_folder={disk}/good --name=x --data_dir={new}/data", 65, "fewer than two classes"),
    ("prepare --image_folder={disk}/good --name=X-1 --data_dir={new}/data", 78, "--name=X-1"),
    ("prepare --convert={disk}/good --data_dir={new}/data", 78, "dataset_info.json"),
    # Weights and images that are not there, and what is wished of them.
    ("predict", 78, "name images"),
    ("predict {disk}/image.png", 78, "--weights and --workdir"),
    ("predict --weights={disk}/good --workdir={disk} {disk}/image.png", 78, "--weights and --workdir"),
    ("predict --weights={disk}/nothing {disk}/image.png", 65, "does not exist"),
    ("predict --weights=/ {disk}/image.png", 65, "/ is a folder without weights"),
    ("predict --weights=file:///weights {disk}/image.png", 78, "gs://BUCKET/FOLDER"),
    ("predict --weights=~nobody_of_this_name/good {disk}/image.png", 78, "no home directory"),
    ("predict --workdir=~nobody_of_this_name/run {disk}/image.png", 78, "no home directory"),
    ("predict --workdir={disk}/empty {disk}/image.png", 65, "{disk}/empty"),
    ("predict --workdir={disk}/hollow {disk}/image.png", 65, "holds no checkpoint yet"),
    (f"{PREDICT} --variant=b0 {{disk}}/image.png", 78, "holds mini0, not b0"),
    (f"{PREDICT} --kind=raw {{disk}}/image.png", 78, "not raw"),
    (f"{PREDICT} --kind=best {{disk}}/image.png", 78, "best"),
    (f"{PREDICT} --image_size=1000000 {{disk}}/image.png", 78, "image_size is 1000000"),
    (f"{PREDICT} --preprocessing=torch {{disk}}/image.png", 78, "--preprocessing=torch is not one of"),
    (f"{PREDICT} --class_names={{disk}}/image.png {{disk}}/image.png", 78, "image.png"),
    (f"{PREDICT} --class_names=~nobody_of_this_name/names {{disk}}/image.png", 78, "no home directory"),
    (f"{PREDICT} --class_names={{disk}}/syntax.py {{disk}}/image.png", 78, "class names"),
    (f"{PREDICT} --top=0 {{disk}}/image.png", 78, "top"),
    (f"{PREDICT} {{disk}}/none.png", 65, "1 of 1 could not be read"),
    (f"{PREDICT} {{disk}}/broken.png", 65, "1 of 1 could not be read"),
    (f"{PREDICT} {{disk}}/empty", 65, "there is no image in this folder"),
    (f"{PREDICT} '{{disk}}/*.tif'", 65, "nothing matches this pattern"),
    (f"{PREDICT} https://example.com/cat.jpg", 65, "https://example.com/cat.jpg"),
    (f"{PREDICT} -", 65, "no image was named on standard input"),
    ("convert --out={new}/out", 78, "name one file or folder to convert, not 0"),
    ("convert {disk}/good", 78, "--out is missing"),
    ("convert {disk}/good --out={disk}/whole", 78, "{disk}/whole"),
    ("convert {disk}/good --out=s3://bucket/out", 78, "gs://BUCKET/FOLDER"),
    ("convert s3://bucket/weights --out={new}/out", 78, "gs://BUCKET/FOLDER"),
    ("convert {disk}/good --out=~nobody_of_this_name/out", 78, "no home directory"),
    ("convert {disk}/good --out={new}/out --drop_background", 78, "no background to drop"),
    (f"{EVALUATE} --weights={{disk}}/good", 78, "3 classes"),
    (f"{EVALUATE} --weights={{disk}}/good --out=~nobody_of_this_name/out", 78, "no home directory"),
    (f"{EVALUATE} --weights={{disk}}/good --config.evaluation.confusion=True", 78, "--out is missing"),
    (f"{EXPORT}", 78, "--format"),
    (f"{EXPORT} --format=jpeg", 78, "jpeg"),
    (f"{EXPORT} --format=onnx --image=~nobody_of_this_name/a.png", 78, "no home directory"),
    (f"{EXPORT} --format=onnx --image={{disk}}/broken.png", 65, "broken.png"),
    (f"{EXPORT} --format=onnx --image={{disk}}/none.png", 65, "none.png"),
    # What is only looked at or measured.
    ("model --variant=b99", 78, "'b99' is unknown"),
    ("model --search=b99", 78, "'b99' is unknown"),
    (f"{PLAN} --config.data.name=elsewhere", 78, "--sizes"),
    (f"{PLAN} --topology=v9-8", 78, "unknown generation"),
    (f"{PLAN} --topology=v3-33", 78, "v3-33"),
    (f"{PLAN} --topology=v5e-8 --sizes=1,2", 78, "three numbers"),
    (f"{PREVIEW}", 78, "ending in .png"),
    (f"{PREVIEW} --out=~nobody_of_this_name/a.png", 78, "no home directory"),
    (f"{PREVIEW} --image=~nobody_of_this_name/a.png --out={{new}}/a.png", 78, "no home directory"),
    (f"{PREVIEW} --op=Blur --out={{new}}/a.png", 78, "--op=Blur"),
    (f"{PREVIEW} --image={{disk}}/none.png --out={{new}}/a.png", 65, "none.png"),
    (f"{PREVIEW} --image={{disk}}/broken.png --out={{new}}/a.png", 65, "broken.png: "),
    (f"{PREVIEW} --image={{disk}}/image.png --out=/proc/nothing/a.png", 78, "/proc/nothing/a.png"),
    ("benchmark", 78, "name the benchmark first"),
    ("benchmark speed --config=configs/quickstart.py", 78, "name the benchmark first"),
    ("benchmark input --config=configs/quickstart.py --data={disk}/empty", 65, "there is no image in it"),
    (
        "benchmark checkpoint --config=configs/quickstart.py --config.data.data_dir={disk}/data --folder={disk}/none",
        78,
        "there is no such folder",
    ),
]

COMMANDS = {  # every command that opens weight files
    "convert": "convert {file} --out={new}/out",
    "predict": "predict --weights={file} {disk}/image.png",
    "evaluate": f"{EVALUATE} --weights={{file}}",
    "export": "export --weights={file} --format=onnx --out={new}/out",
    "train": f"{TRAIN} --config.init_from={{file}}",
}


def cut(source: pathlib.Path, target: pathlib.Path) -> None:
    """Leaves the first two thirds of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: len(data) * 2 // 3])


def cut_in_a_folder(source: pathlib.Path, target: pathlib.Path, name: str) -> None:
    shutil.copytree(source, target)
    cut(source / name, target / name)


def points_elsewhere(source: pathlib.Path, target: pathlib.Path) -> None:
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        del file["layers/dense/vars/1"]
        file.create_dataset("layers/dense/vars/1", (3,), "f4", external=[("/etc/passwd", 0, 12)])


def not_finite(source: pathlib.Path, target: pathlib.Path) -> None:
    """NaN in the last numbers of the file."""
    target.mkdir()
    shutil.copy(source / "metadata.json", target)
    data = bytearray((source / directory.TENSORS).read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (target / directory.TENSORS).write_bytes(data)


DAMAGED = {
    "empty.pth": lambda whole, path: path.touch(),
    "text.h5": lambda whole, path: path.write_text("no weights"),
    "zeros.keras": lambda whole, path: path.write_bytes(bytes(100_000)),
    "cut.safetensors": lambda whole, path: cut(whole / "ours" / directory.TENSORS, path),
    "cut.pth": lambda whole, path: cut(whole / "network.pth", path),
    "cut_legacy.pth": lambda whole, path: cut(whole / "legacy.pth", path),
    "cut.keras": lambda whole, path: cut(whole / "network.keras", path),
    "cut.weights.h5": lambda whole, path: cut(whole / "network.weights.h5", path),
    "cut_keras2.h5": lambda whole, path: cut(whole / "keras2.h5", path),
    "elsewhere.weights.h5": lambda whole, path: points_elsewhere(whole / "network.weights.h5", path),
    "executes.pth": lambda whole, path: path.write_bytes(b"cos\nsystem\n(S'touch /tmp/executed'\ntR."),
    "ours": lambda whole, path: cut_in_a_folder(whole / "ours", path, "metadata.json"),
    "not_finite": lambda whole, path: not_finite(whole / "ours", path),
    "timm": lambda whole, path: cut_in_a_folder(whole / "timm", path, "config.json"),
    "official": lambda whole, path: cut_in_a_folder(whole / "official", path, "model.ckpt.data-00000-of-00001"),
    "a_folder.safetensors": lambda whole, path: path.mkdir(),
    "a_pipe.pth": lambda whole, path: os.mkfifo(path),
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """What the commands find: a dataset, weights of each format, configurations and images, good and damaged."""
    disk = tmp_path_factory.mktemp("disk")
    prepare_digits(str(disk / "data"))
    weights = random_weights("mini0", num_classes=3, image_size=16, kind="ema")
    for name in ("good", "whole/ours", "whole/timm", "whole/official", "damaged", "empty", "hollow/checkpoints"):
        (disk / name).mkdir(parents=True)
    whole = disk / "whole"
    for folder in (disk / "good", whole / "ours"):
        directory.write(weights, folder)
    b0 = random_weights("b0", image_size=64)
    timm.write(b0, whole / "timm")
    official.write(b0, whole / "official")
    torch_samples.write(whole / "network.pth", weights.in_convention("timm"))
    torch_samples.write(whole / "legacy.pth", weights.in_convention("timm"), torch_samples.as_legacy)
    build_keras(weights).save(whole / "network.keras")
    build_keras(weights).save_weights(whole / "network.weights.h5")
    write_keras_2(whole / "keras2.h5", weights)
    for name, make in DAMAGED.items():
        make(whole, disk / "damaged" / name)
    cv2.imwrite(str(disk / "image.png"), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    cut(disk / "image.png", disk / "broken.png")
    for name, text in {
        "syntax": "def get_config(:\n",
        "raises": "1 / 0\n",
        "imports": "import nothing_of_this_name\n",
        "no_function": "",
        "number": "def get_config():\n    return 7\n",
        "other_keys": "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'a': 1})\n",
    }.items():
        (disk / f"{name}.py").write_text(text)
    return disk


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs `python -m pipeline.NAME ARGUMENT …` in a process of its own; returns its exit code and what it wrote."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return lambda name, *arguments: forks.run(
        "-m", f"pipeline.{name}", *arguments, TF_CPP_MIN_LOG_LEVEL="3", XDG_CACHE_HOME=cache
    )


def assert_one_error(run, line: str, code: int, message: str, disk, new, **names) -> None:
    """Runs a command line; it must end with the code and one line of error, and write nothing."""
    command, *arguments = (word.format(disk=disk, new=new, **names) for word in shlex.split(line))
    before = listing(disk)
    end = run(command, *arguments)
    assert end.returncode == code, end
    errors = [said for said in end.stderr.splitlines() if said.startswith("Error:")]
    assert len(errors) == 1, end.stderr
    assert end.stderr.splitlines()[-1] == errors[0]
    assert message.format(disk=disk, **names) in errors[0]
    assert errors[0].isprintable()
    assert "Traceback" not in end.stderr
    assert (listing(disk), listing(new)) == (before, [])


def listing(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(".lock"))


@pytest.mark.parametrize(("line", "code", "message"), TYPED, ids=[line for line, _, _ in TYPED])
def test_what_is_typed_is_answered_in_one_line(run, disk, tmp_path, line, code, message):
    assert_one_error(run, line, code, message, disk, tmp_path)


OF_EACH_FORMAT = ("cut.safetensors", "cut.pth", "cut.keras", "cut.weights.h5", "ours", "timm", "official")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("convert", name) for name in DAMAGED),
        *((command, name) for command in COMMANDS if command != "convert" for name in OF_EACH_FORMAT),
    ],
)
def test_a_damaged_weight_file_is_named_in_one_line(run, disk, tmp_path, command, name):
    assert_one_error(run, COMMANDS[command], 65, name, disk, tmp_path, file=disk / "damaged" / name)


def test_whole_files_of_the_same_kinds_are_taken(run, disk, tmp_path):
    """Else the damage would not be what was refused."""
    for path in sorted((disk / "whole").iterdir()):
        end = run("convert", str(path), f"--out={tmp_path}/{path.name}")
        assert end.returncode == 0, (path, end.stderr)


@pytest.mark.parametrize("name", ["digits", "records/small"])
def test_a_command_that_an_error_names_works_as_it_is_printed(run, disk, tmp_path, name):
    """A dataset that is not prepared, and one that is stored in another format; both in a folder with a space."""
    folder = tmp_path / "a folder"
    if name.startswith("records"):
        tfrecord_dataset(folder, [0, 1, 2])
    preview = ("preview", "--config=configs/quickstart.py", f"--out={tmp_path}/sheet.png", f"--config.data.name={name}")
    end = run(*preview, f"--config.data.data_dir={folder}")
    assert end.returncode == 65, end
    _, module, command, *arguments = shlex.split(re.search(r"once: (.*)", end.stderr)[1])
    assert module == "-m"
    if "ANOTHER_FOLDER" in arguments:
        folder = tmp_path / "another"
        arguments[arguments.index("ANOTHER_FOLDER")] = str(folder)
    end = run(command.removeprefix("pipeline."), *arguments)
    assert end.returncode == 0, end
    end = run(*preview, f"--config.data.data_dir={folder}")
    assert end.returncode == 0, end
