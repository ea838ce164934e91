"""Lets the processes of a run on CPUs share compiled programs, as the hosts of a TPU slice can.

A program's key in JAX's cache names the topology. That of a TPU slice is the same on all its hosts; that of CPUs differs from
process to process, so that four trainers would compile everything four times. Python runs this file when it starts, for
those that have its folder in PYTHONPATH; only trainers, and what forks them, import JAX for it.
"""

import sys

if {"pipeline.train", "tests.fork_server"} & set(sys.orig_argv):
    from jax._src import cache_key

    cache_key._hash_accelerator_config = cache_key._hash_devices
