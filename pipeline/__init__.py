"""A distributed training pipeline for EfficientNet on Cloud TPU pods, and on one GPU or a laptop's CPU.

Importing it says which client the libraries below use for gs:// paths: ours (`pipeline/storage`), by way of fsspec. Left to
itself `etils.epath` takes TensorFlow's wherever TensorFlow is installed, and imports it into every process.
"""

import os

import fsspec

os.environ["EPATH_USE_TF"] = "false"
fsspec.register_implementation("gcs", "pipeline.storage.filesystem.BucketFileSystem", clobber=True)
fsspec.register_implementation("gs", "pipeline.storage.filesystem.BucketFileSystem", clobber=True)
