"""How a process keeps memory that it frees and soon needs again: glibc's tunables, as `launch/lib/devices.sh` has them.

By default glibc returns large blocks to the kernel at once, so each reuse zeroes every page again. The train step on CPUs and
the decoder allocate such blocks all the time. Only an environment variable set before a process starts can change this.
https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
"""

from collections.abc import MutableMapping

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=2147483648:glibc.malloc.trim_threshold=8589934592"
    ":glibc.malloc.arena_max=1"
)


def keep_memory(environment: MutableMapping[str, str]) -> None:
    """Sets the tunables for processes that start with these variables. A value that the user set is kept."""
    environment.setdefault(VARIABLE, TUNABLES)
