"""Everything between a dataset's bytes and a batch of pixels; knows nothing of models, training or JAX."""
