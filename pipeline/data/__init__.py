"""From a dataset's bytes to a batch of pixels, without models, training or JAX."""
