"""Choices in how a step is compiled for the devices of a mesh. They change its cost, and its values only by rounding.

Each was found by the TPU compiler's own estimate of cycles; docs/plan.md has the figures. Only TPUs have such choices.
"""

from jax.sharding import Mesh

CompilerOptions = dict[str, bool | str]
LANES = 128  # of a vector register; XLA lays images along them if the images fill them
_SUBLANES = 8  # rows of a register; they hold channels if images are along the lanes
_V5_AND_LATER = ("TPU v5 lite", "TPU v5", "TPU v6 lite")  # JAX's names of v5e, v5p and v6e
_V4_AND_LATER = ("TPU v4", *_V5_AND_LATER)


def depthwise_channels_per_group(mesh: Mesh, images_per_device: int) -> int:
    """Returns the `channels_per_group` of `depthwise_conv` that is cheapest on these devices.

    Groups pay off if images fill the lanes. Otherwise channels are along the lanes, and a group of 8 channels would leave
    most of a matrix unit idle. On v3, whose cores have fewer matrix units, most layers are slower with groups.
    """
    return _SUBLANES if _is(mesh, _V4_AND_LATER) and images_per_device % LANES == 0 else 1


def compiler_options(mesh: Mesh) -> CompilerOptions:
    """Returns the compiler's options for the devices of a mesh.

    They apply from v5 on. A fusion may use 32 MiB of a core's vector memory instead of 16: its windows are larger, so a
    depthwise convolution reads fewer margins twice. With 48 MiB a block of B7 costs 2 % less but takes four times as long to
    compile. Use the older fusion cost model; it fuses more, and a block costs 2 to 3 % less.
    """
    if not _is(mesh, _V5_AND_LATER):
        return {}
    return {
        "xla_tpu_scoped_vmem_limit_kib": str(32 * 1024),
        "xla_tpu_experimental_do_not_use_fusion_estimate_cost_changes": "true",
    }


def _is(mesh: Mesh, kinds: tuple[str, ...]) -> bool:
    return mesh.devices.flat[0].device_kind in kinds
