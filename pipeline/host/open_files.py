"""How many files this process may have open: as many as the machine allows, and enough for the data.

Reading at random keeps each shard of a dataset open, and tfds makes about a thousand of ImageNet, which is the usual limit of a
shell. Libraries that cannot open a file do not fail well. Processes that are started from this one inherit the limit.
"""

import resource
import weakref

from pipeline.errors import ConfigError

_MOST = 1 << 20  # the kernel's own limit (fs.nr_open) where nobody changed it; "unlimited" would be refused
_OTHERS = 256  # checkpoints, connections, libraries; a small run has about 100
_needed = weakref.WeakKeyDictionary()  # files by who keeps them open


def raise_limit() -> None:
    """Raises the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_room(reader: object, files: int, what: str) -> None:
    """Takes note that `reader` will keep so many files open while it lives.

    Args:
      reader: whatever opens the files.
      files: how many, at most.
      what: they are, for the message.

    Raises:
      ConfigError: this process may not have so many open, with those of the other readers.
    """
    _needed[reader] = files
    raise_limit()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(_needed.values()) + _OTHERS
    if limit != resource.RLIM_INFINITY and needed > limit:
        del _needed[reader]
        raise ConfigError(
            f"{what} needs {files:,} open files, and with what else is open about {needed:,}; the limit of this process is "
            f"{limit:,} (ulimit -Hn). Raise it (ulimit -n, LimitNOFILE= of a service, docker run "
            "--ulimit), or prepare the data in fewer shards"
        )
