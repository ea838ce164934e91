"""What the commands share: flags, a checked configuration, and one-line errors.

A command defines its flags and calls `run` with a function. Configurations are checked against the recipe here, so the rest of
the project reads attributes without asking whether they exist.
"""

import contextlib
import difflib
import errno
import logging as python_logging
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import recipe
from pipeline import errors
from pipeline.configuration import domains
from pipeline.errors import ConfigError
from pipeline.host import caches, ending, open_files
from pipeline.host.paths import expanded
from pipeline.host.printable import is_utf8, printable
from pipeline.model import variants

_RENAMED_FLAGS = {"picture": "image", "pictures": "images"}
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def define_config() -> flags.FlagHolder[ConfigDict]:
    """Defines `--config FILE` and its `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        "config", None, "Configuration file, such as configs/b0.py.", lock_config=True
    )


def define_workdir() -> flags.FlagHolder[str | None]:
    """Defines `--workdir DIRECTORY`."""
    return flags.DEFINE_string(
        "workdir", None, "Directory of the run, local or gs://…; a run that it holds is continued."
    )


def run(
    command: Callable[..., None],
    arguments: list[str] | None = None,
    *,
    takes_paths: bool = False,
    structure: types.ModuleType = recipe,
    leave: Callable[[int], NoReturn] = ending.leave,
) -> NoReturn:
    """Parses the command line, runs the command, and ends the process with 0 or the error's code (`pipeline/errors.py`).

    Args:
      command: the function to run.
      arguments: the command line; by default that of the process.
      takes_paths: whether `command` takes the list of positional arguments.
      structure: the module in `configs/` that has every key of its `--config`.
      leave: ends the process with a code.
    """
    open_files.open_standard_streams()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # silence TensorFlow's CPU notices
    logging.use_absl_handler()
    python_logging.getLogger().setLevel(python_logging.WARNING)
    _define_help()
    open_files.raise_limit()

    def parse_and_run() -> None:
        caches.give_libraries_a_place()
        paths = _parse(sys.argv if arguments is None else arguments, structure)
        logging.set_verbosity(logging.INFO)  # parsing the flags sets it too, so this comes after
        logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
        if paths and not takes_paths:
            raise ConfigError(f"unexpected argument {paths[0]!r}. `--help` lists the flags")
        command(paths) if takes_paths else command()

    leave(ending.outcome(parse_and_run))


def checked(config: ConfigDict | None) -> ConfigDict:
    """Returns a configuration after checking that it has exactly the recipe's structure and values inside their domains.

    A network that is given as a file with its table is replaced by the table, so that a run does not change with the file.

    Raises:
      ConfigError: there is no configuration, its file cannot be read, or keys are missing, unknown, of another type or outside
        their domains. The message lists them.
    """
    config = of_structure(config, recipe, "configs/b0.py")
    domains.check(config)
    config.model.variant = variants.spelled_out(config.model.variant)
    return config


def of_structure(config: ConfigDict | None, structure: types.ModuleType, example: str) -> ConfigDict:
    """Returns a configuration that has the keys of another and values of its types.

    Args:
      config: what `--config` gave.
      structure: the module in `configs/` that has every key.
      example: a configuration file, for the error.

    Raises:
      ConfigError: no configuration, a file that cannot be read, or keys that are missing, unknown or of another type; it
        lists them.
    """
    if config is None:
        raise ConfigError(f"--config is missing: name a configuration file, such as --config {example}")
    try:
        getattr(config, "model", None)
    except OSError as error:  # config_flags raises the read error on first attribute access
        reason = str(error.__cause__ or error).splitlines()[-1].strip()
        raise ConfigError(f"--config: the file cannot be read: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config: get_config() returned {type(config).__name__}, not a ConfigDict")
    expected, found = _leaf_types(structure.get_config()), _leaf_types(config)
    problems = [f"config.{key} is missing" for key in expected if key not in found]
    problems += [f"config.{key} is unknown" for key in found if key not in expected]
    problems += [
        f"config.{key} is of type {found[key].__name__}, not {expected[key].__name__}"
        for key in expected
        if key in found and found[key] is not expected[key]
    ]
    if problems:
        raise ConfigError(f"--config does not fit {_file_of(structure)}: " + "; ".join(problems))
    return config


def absolute_workdir(workdir: str | None) -> str:
    """Returns the run's directory as an absolute, writable path or URL. It need not exist, and is not created.

    Raises:
      ConfigError: no directory is given, or it cannot be created or written.
    """
    if not workdir:
        raise ConfigError("--workdir is missing: name the directory of the run, such as --workdir runs/b0")
    if "://" in workdir:
        return _checked_url(workdir)
    workdir = os.path.abspath(expanded(workdir))
    if "\\" in workdir or not is_utf8(workdir):
        raise ConfigError(
            f"--workdir={printable(workdir)}: tensorstore, which writes the checkpoints, takes a backslash for a slash and "
            "names in UTF-8 alone; take another name"
        )
    try:
        _try_to_create(workdir)
    except OSError as error:
        where = "" if error.filename == workdir else f"{error.filename}: "
        raise ConfigError(f"--workdir={workdir}: {where}{error.strerror}; name another directory") from error
    if os.path.isdir(workdir) and not os.access(workdir, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"--workdir={workdir}: no permission to read and write there")
    return workdir


def _checked_url(workdir: str) -> str:
    """Returns a `gs://…` without slashes at its end.

    Raises:
      ConfigError: it is another URL, or a bucket does not have such names. `..` is a name like any other there, which the
        libraries below would follow, each in its own way.
    """
    if not workdir.startswith("gs://"):
        raise ConfigError(f"--workdir={workdir}: give a local path, or one of Google Cloud Storage, gs://BUCKET/FOLDER")
    path = workdir.removeprefix("gs://").rstrip("/")
    if not path.isprintable() or any(name in ("", ".", "..") for name in path.split("/")):
        raise ConfigError(
            f"--workdir={printable(workdir)}: expected gs://BUCKET/FOLDER, without empty names, '.', '..' and control "
            "characters; write the path out"
        )
    return f"gs://{path}"


def _try_to_create(directory: str) -> None:
    """Creates a missing directory and its parents to see whether that works, and removes them.

    They are created in a new folder beside the place where they are to be, because the processes of a run may all do this at
    the same time.
    """
    missing, present = [], directory
    while not os.path.isdir(present) and present != os.path.dirname(present):
        missing.append(present)
        present = os.path.dirname(present)
    created = []
    try:
        for path in reversed(missing):
            try:
                if os.path.lexists(path) and not os.path.isdir(path):  # another process may have created it by now
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                if not created:
                    created.append(tempfile.mkdtemp(dir=present))
                created.append(os.path.join(created[-1], os.path.basename(path)))
                os.mkdir(created[-1])
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
    finally:
        for path in reversed(created):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _is_ours_or_a_warning(record: python_logging.LogRecord) -> bool:
    """Keeps the libraries' log messages off the console; orbax alone writes dozens of lines for each checkpoint.

    It also drops the library's traceback of an error that this project reports in one line.
    """
    if record.exc_info and record.exc_info[1] and errors.expected(record.exc_info[1]):
        record.exc_info = None
    return record.levelno >= python_logging.WARNING or record.pathname.startswith(_PACKAGE)


def _define_help() -> None:
    """Defines `--help` here, because absl allows only one definition."""
    if "help" not in flags.FLAGS:
        app.define_help_flags()


def _parse(arguments: list[str], structure: types.ModuleType) -> list[str]:
    """Parses the flags and returns the positional arguments."""
    flags.FLAGS.set_gnu_getopt()  # flags may come after paths
    try:
        return flags.FLAGS(arguments)[1:]
    except SystemExit as end:  # absl exits with 1 after --help
        raise SystemExit(0) from end
    except flags.UnrecognizedFlagError as error:
        now = _RENAMED_FLAGS.get(error.flagname)
        reason = f"--{error.flagname} is called --{now} now" if now and now in flags.FLAGS else str(error)
        raise ConfigError(f"{reason}. `--help` lists the flags") from error
    except flags.Error as error:
        raise ConfigError(f"{error}. `--help` lists the flags") from error
    except Exception as error:
        _check_keys(arguments, structure)
        # ml_collections runs the user's file while it parses, so any error is about the configuration.
        raise ConfigError(f"--config: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _check_keys(arguments: list[str], structure: types.ModuleType) -> None:
    """Raises `ConfigError` for the first `--config.key` whose key the structure does not have."""
    known = _leaf_types(structure.get_config())
    for key in re.findall(r"^--?config\.([\w.]+)", "\n".join(arguments), re.MULTILINE):
        if key not in known:
            similar = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
            hint = f"did you mean --config.{similar[0]}? " if similar else ""
            raise ConfigError(f"--config.{key}: there is no such key; {hint}{_file_of(structure)} has them all")


def _file_of(module: types.ModuleType) -> str:
    return f"{module.__name__.replace('.', '/')}.py"


def _leaf_types(config: ConfigDict, prefix: str = "") -> dict[str, type]:
    found = {}
    for key in config:
        if isinstance(config[key], ConfigDict):
            found |= _leaf_types(config[key], f"{prefix}{key}.")
        else:
            found[prefix + key] = config.get_type(key)
    return found
