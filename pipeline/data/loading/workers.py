"""The worker processes that read and transform examples: their number, their set-up, and their end.

grain starts them and collects their results. A worker that dies becomes one error that names its record. Workers never outlive
their parent.
"""

import dataclasses
import errno
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import threading

from pipeline.data.loading.shared_arrays import WorkerGone
from pipeline.errors import MachineError
from pipeline.host import heap

_SIGTERM_GRACE_SECONDS = 120
_SHARED_MEMORY = "/dev/shm"
_CPU_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")


def worker_count(workers: int) -> int:
    """Returns the number of worker processes: the requested number, or for -1 two fewer than there are CPUs.

    Two CPUs are left to the training loop and the runtime's threads. With one or two CPUs there are no workers.
    """
    return max(0, usable_cpus() - 2) if workers == -1 else workers


def usable_cpus() -> int:
    """Returns how many CPUs this process may use: the smaller of its affinity and its container's quota."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def keep_memory_in_workers() -> None:
    """Makes worker processes that start from now on reuse the memory of images and batches.

    Two workers then make 5 % more images of 600 pixels a second. A value of GLIBC_TUNABLES that the user set is kept.
    """
    heap.keep_memory(os.environ)


def set_up_worker(worker_index: int, worker_total: int) -> None:
    """Runs first in each worker process.

    It ignores what reaches the whole process group, which is Ctrl-C, a closed terminal or a SIGTERM: the parent still needs
    batches, or time to save.
    """
    del worker_index, worker_total
    import cv2

    cv2.setNumThreads(0)  # there is one worker for each CPU already
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _leave_later())
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_later() -> None:
    timer = threading.Timer(_SIGTERM_GRACE_SECONDS, os._exit, (128 + signal.SIGTERM,))
    timer.daemon = True
    timer.start()


def _leave_with_parent() -> None:
    """Ends this worker once its parent is gone; otherwise it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only worker processes may run this"
    parent.join()
    os._exit(1)


@dataclasses.dataclass(frozen=True)
class RecordTrace:
    """Tells at which record each thread of each worker is, by small files that outlive the worker.

    Attributes:
        folder: the folder of the files.
    """

    folder: str

    def note(self, record: int) -> None:
        """Notes that this thread begins with `record`."""
        file = getattr(_thread, self.folder, None)
        if file is None:
            name = f"{os.getpid()}.{threading.get_ident()}"
            file = open(os.path.join(self.folder, name), "wb", buffering=0)  # noqa: SIM115 - for the life of the thread
            setattr(_thread, self.folder, file)
        os.pwrite(file.fileno(), b"%20d" % record, 0)

    def of_dead_workers(self) -> list[int]:
        """Returns the records at which workers that have died were."""
        multiprocessing.active_children()  # reaps finished children, which /proc lists until then
        records = []
        for path in pathlib.Path(self.folder).iterdir():
            if not os.path.exists(f"/proc/{path.name.split('.')[0]}"):
                records.append(int(path.read_bytes()))
        return records


_thread = threading.local()


def failure_of_workers(error: Exception, trace: RecordTrace, source) -> MachineError | None:
    """Returns the error to raise if `error` means that a worker died or could not be started; else None."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return MachineError(f"The data workers cannot be started. {_shared_memory_hint()}")
    # Only the message of grain's error identifies it: its type is RuntimeError, it has no attributes, and the processes are
    # private to grain's iterator. The kernel cannot be asked either, because grain has reaped the worker to learn the code.
    match = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
    if isinstance(error, WorkerGone):
        code = _exit_code(error.process)
    elif match:
        code = int(match.group(1))
    else:
        return None
    cause = "unknown cause" if code is None else signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = ""
    if code == -signal.SIGKILL:
        hint = "Usually the machine had no memory left: give fewer workers (--config.data.workers)."
    elif code == -signal.SIGBUS:
        hint = _shared_memory_hint()
    records = ", ".join(f"{record} ({source.describe(record)})" for record in trace.of_dead_workers())
    return MachineError(f"A data worker died of {cause} at record {records or 'unknown'} of {source!r}. {hint}")


def _exit_code(process: int) -> int | None:
    """Returns a child's exit code, or minus the signal that ended it; None if it was reaped before."""
    try:
        end = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return None
    assert end is not None, "waitid returns None only with WNOHANG"
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def _shared_memory_hint() -> str:
    free = shutil.disk_usage(_SHARED_MEMORY).free // 1024**2
    return (
        f"Usually {_SHARED_MEMORY} is full ({free} MiB are free now): make it larger (docker run --shm-size), give fewer "
        "workers, or none (--config.data.workers=0)."
    )
