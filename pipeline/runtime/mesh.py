"""The mesh over all devices, with a single axis "data", and the sharding of arrays on it.

Training is data-parallel: batches are split along their first axis, and everything else is replicated. The mesh has
`AxisType.Auto`, so the compiler places the collectives.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh() -> Mesh:
    """Returns the mesh over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the train state: the whole array on every device."""
    return NamedSharding(mesh, P())


def split_by_example(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis split over the devices."""
    return NamedSharding(mesh, P("data"))


def to_devices(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes the global batch from the rows of each process; the copy runs in the background."""
    sharding = split_by_example(mesh)
    # With several processes JAX takes this explicit copy for an implicit one.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
