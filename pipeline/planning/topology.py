"""The devices of a slice that is not here, from libtpu's table of topologies.

libtpu is loaded for compiling only. It looks for no TPU, and any number of processes may load it at the same time.
"""

import importlib.metadata
import importlib.util
import os

from pipeline.errors import ConfigError, MachineError
from pipeline.planning.slices import Slice


def prepare() -> None:
    """Sets the environment of JAX and libtpu; call it before JAX is imported.

    Raises:
      MachineError: libtpu is not installed; the message has the command that installs it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise MachineError("the TPU compiler is not installed: pip install -r requirements-plan.txt (no TPU is needed)")
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no metadata server to ask
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    # libtpu prints complaints if these are missing.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")


def compiler_version() -> str:
    """Returns the version of the compiler, which is part of the cache key."""
    return importlib.metadata.version("libtpu")


def mesh_of(tpu_slice: Slice):
    """Returns the mesh over the devices of a slice, one axis "data", to compile for.

    Raises:
      ConfigError: the compiler does not know the topology.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType

    try:
        description = topologies.get_topology_desc(platform="tpu", **tpu_slice.topology_options)
    except Exception as error:  # jaxlib's own type, and its text is the reason
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the slice {tpu_slice.name}: the compiler has no such topology: {reason}") from error
    if len(description.devices) != tpu_slice.devices:
        raise ConfigError(
            f"the slice {tpu_slice.name}: expected {tpu_slice.devices} devices, libtpu knows {len(description.devices)}"
        )
    return jax.sharding.Mesh(np.array(description.devices), ("data",), axis_types=(AxisType.Auto,))
