"""A distributed training pipeline for EfficientNet on Cloud TPU pods, and on one GPU or a laptop's CPU.

Importing it says which client the libraries below use for gs:// paths: ours (`pipeline/storage`), by way of fsspec. Left to
itself `etils.epath` takes TensorFlow's wherever TensorFlow is installed, and imports it into every process.
"""

import importlib.util
import os

os.environ["EPATH_USE_TF"] = "false"
if importlib.util.find_spec("fsspec") is not None:  # the launcher reads configurations where nothing opens a path
    import fsspec

    for protocol in ("gcs", "gs"):
        fsspec.register_implementation(protocol, "pipeline.storage.filesystem.BucketFileSystem", clobber=True)
