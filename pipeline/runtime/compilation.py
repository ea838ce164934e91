"""The cache of compiled programs. It is on by default, and its hits are counted.

A run of one process keeps the cache on its local disk. A run of several keeps it in the run's directory: only process 0
writes the cache, and all processes read it. A preempted run finds it there when its next slice starts with empty disks.
Processes on CPUs do not share programs, because JAX's key includes the topology, which differs between them.

`JAX_COMPILATION_CACHE_DIR` names another place; an empty value switches the cache off. Programs that compile quickly are kept
too, because a start has many of them.
"""

import contextlib
import functools
import os

import jax
from jax import monitoring
from jax._src.lru_cache import LRUCache

from pipeline.host.caches import cache_folder
from pipeline.host.whole_files import PARTIAL
from pipeline.storage import local

_HIT, _MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


class CompilationCache:
    """The compilation cache and its hits and misses in this process.

    Args:
      workdir: The run's directory if the run has several processes, else None.
    """

    def __init__(self, workdir: str | None):
        self.hits = self.misses = 0
        _write_whole_programs()
        self.directory = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if self.directory is None:
            self.directory = f"{workdir}/compiled" if workdir else str(cache_folder("compiled"))
            jax.config.update("jax_compilation_cache_dir", self.directory)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        monitoring.register_event_listener(self._count)

    def describe(self) -> str:
        """Returns the cache's directory, hits and misses as text."""
        if not self.directory:
            return "compilation cache off"
        return f"compilation cache {self.directory}: {self.hits} hit(s), {self.misses} miss(es)"

    def _count(self, event: str, **_) -> None:
        self.hits += event == _HIT
        self.misses += event == _MISS


@functools.cache
def _write_whole_programs() -> None:
    """Replaces JAX's function that writes a program, once in a process.

    That one leaves the beginning of a program on a disk that is full, or if the process is killed. Every later start would
    try to read it, warn, compile the program again, and leave the beginning as it is.
    """
    put = LRUCache.put

    def put_whole(self: LRUCache, key: str, value: bytes) -> None:
        if self.eviction_enabled or local.is_remote(self.path):  # objects are always written atomically
            return put(self, key, value)
        program = self.path / f"{key}-cache"
        if program.exists():
            return None
        partial = self.path / f"{key}.{os.getpid()}{PARTIAL}"
        try:
            partial.write_bytes(value)
            partial.replace(program)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    LRUCache.put = put_whole
