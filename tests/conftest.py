"""Eight virtual CPU devices for the whole suite, chosen before anything can start a JAX backend; and the order of the files.

With `--quick` the long files and the tests marked slow are left out, and the header says which.
"""

import os
import pathlib
import signal

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # The tests compile much and compute little: without LLVM's passes a train step is there in a third of the time.
        *("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"),
    ]
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What compiles in a moment is compiled a thousand times.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# With nohup they would ignore a closed terminal, too; a handler of this process alone is not inherited.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

FOLDER = pathlib.Path(__file__).parent
# The files that take longest, in this order. Each is given to one process as a whole, so one that began late would end alone.
LONGEST = (
    "multiprocess/test_interruptions.py",
    "scaling/test_studies.py",
    "search/test_searches.py",
    "multiprocess/test_progressive_interruptions.py",
    "launch/test_training.py",
    "storage/test_runs_in_a_bucket.py",
    "multiprocess/test_processes.py",
    "planning/test_plan.py",
    "planning/test_precompile.py",
    "benchmarks/test_step_benchmark.py",
    "test_train.py",
    "test_failures_of_runs.py",
    "test_input_failures.py",
    "test_prepare.py",
    "search/test_search_progress.py",
    "training/test_finetuning.py",
    "training/update/test_step.py",
    "model/test_network.py",
    "model/test_families.py",
    "runtime/test_watchdog.py",
    "test_broken_workdir.py",
    "launch/test_pod_slices.py",
    "launch/test_pod_supervisors.py",
    "launch/test_pod_runs.py",
    "launch/test_gcloud_requests.py",
    "launch/test_gcloud_reads.py",
    "launch/test_docs.py",
    "launch/test_agent.py",
    "launch/test_surrender.py",
    "launch/test_simulated_pod.py",
    "launch/test_pod_failures.py",
    "benchmarks/test_restart_costs.py",
    "multiprocess/test_one_of_two.py",
    "storage/test_kills.py",
    "runtime/test_workdir_lock.py",
    "host/test_open_files.py",
    "host/test_announcing.py",
    "data/preparation/test_fake_imagenet.py",
    "data/preparation/test_image_folder.py",
    "data/decoding/test_mutated_jpegs.py",
    "weights/test_exports.py",
    "weights/test_family_weights.py",
    "weights/test_keras.py",
    "test_configs.py",
    "data/loading/test_workers.py",
    "weights/test_fuzzing.py",
    "benchmarks/test_input_benchmark.py",
    "launch/test_local.py",
    "model/test_counting.py",
    "data/loading/test_eval_passes.py",
    "weights/test_official.py",
    "storage/test_reading_benchmark.py",
    "data/loading/test_damage.py",
    "training/test_staged_steps.py",
    "planning/test_slices.py",
    "weights/test_file_contents.py",
    "weights/test_commands.py",
    "test_forks.py",
    "weights/test_predict.py",
    "weights/test_pixel_range.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="Leave out the long files and the tests marked slow.")


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not config.getoption("--quick"):
        return []
    files = [
        path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("test_*.py") if "mark.slow" in path.read_text()
    ]
    return [
        f"left out as a whole: {', '.join(LONGEST)}",
        f"left out in part, the tests marked slow: {', '.join(sorted({*files} - {*LONGEST}))}",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ranks = {FOLDER / name: rank for rank, name in enumerate(LONGEST)}
    if gone := [path.name for path in ranks if not path.exists()]:
        raise pytest.UsageError(f"LONGEST in tests/conftest.py names files that are not there: {', '.join(gone)}")
    if config.getoption("--quick"):
        left_out = {item for item in items if item.path in ranks or item.get_closest_marker("slow")}
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
