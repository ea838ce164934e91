"""Raises the limit of open files, checks that it is enough for the data, and opens the standard streams that are closed.

Random access keeps every shard of a dataset open. tfds makes about a thousand of ImageNet, which is the usual limit of a
shell, and libraries that cannot open a file fail badly. Child processes inherit the limit.
"""

import os
import resource
import sys
import weakref

from pipeline.errors import ConfigError

_MOST = 1 << 20  # the kernel's default limit (fs.nr_open), which refuses "unlimited"
_OTHERS = 256  # checkpoints, connections, libraries; a small run has about 100
_needed = weakref.WeakKeyDictionary()  # number of files by reader


def open_standard_streams() -> None:
    """Opens the standard streams that were closed before this process began, as services and `>&-` do, on /dev/null.

    The next files and sockets that are opened would get their descriptors, and whatever a library prints would go there.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
            setattr(sys, name, os.fdopen(opened, "r" if name == "stdin" else "w", closefd=False))
            os.set_inheritable(opened, True)


def raise_limit() -> None:
    """Raises the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_room(reader: object, files: int, what: str) -> None:
    """Reserves a number of open files for `reader` while it exists.

    Args:
      reader: the object that opens the files.
      files: the largest number of files.
      what: a description, for the message.

    Raises:
      ConfigError: the limit is too low for all readers together.
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
