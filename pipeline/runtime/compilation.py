"""The cache of compiled programs: on by default, and counted.

One process keeps it on its local disk. Several keep it in the run's directory, because JAX lets the first of them alone
write to it and all of them read: so the hosts of a slice share what one compiled, and so do those of the next slice, which
a preempted run is given with empty disks. (Processes on CPUs do not share: JAX's key of a program names their topology, and
on CPUs that differs between processes.)

`JAX_COMPILATION_CACHE_DIR` names another place; set to nothing it switches the cache off. Programs that compile in a moment
are kept as well: a start has many of them.
"""

import os

import jax
from jax import monitoring

from pipeline.host.caches import cache_folder

_HIT, _MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


class CompilationCache:
    """The cache, and how often it served this process.

    Args:
      workdir: The directory of a run of several processes; None for one process.
    """

    def __init__(self, workdir: str | None):
        self.hits = self.misses = 0
        self.directory = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if self.directory is None:
            self.directory = f"{workdir}/compiled" if workdir else str(cache_folder("compiled"))
            jax.config.update("jax_compilation_cache_dir", self.directory)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        monitoring.register_event_listener(self._count)

    def describe(self) -> str:
        """Returns what the cache did since the start, for people."""
        if not self.directory:
            return "compilation cache off"
        return f"compilation cache {self.directory}: {self.hits} hit(s), {self.misses} miss(es)"

    def _count(self, event: str, **_) -> None:
        self.hits += event == _HIT
        self.misses += event == _MISS
