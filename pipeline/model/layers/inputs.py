"""Normalises images on the device, inside the step.

Images are transferred to the device as uint8, a quarter of the bytes of float32. Means and standard deviations come from the
configuration, in units of pixel values (0 to 255).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normalize_images(
    images: jax.Array, mean_rgb: Sequence[float], stddev_rgb: Sequence[float], dtype: jnp.dtype
) -> jax.Array:
    """Returns (images - mean_rgb) / stddev_rgb, computed in float32.

    Args:
      images: uint8 [batch, height, width, 3].
      mean_rgb: Three pixel values.
      stddev_rgb: Three pixel values.
      dtype: Dtype of the result.

    Returns:
      [batch, height, width, 3] of `dtype`.
    """
    mean = jnp.asarray(mean_rgb, jnp.float32)
    stddev = jnp.asarray(stddev_rgb, jnp.float32)
    return ((images.astype(jnp.float32) - mean) / stddev).astype(dtype)
