"""A distributed training pipeline for EfficientNet on Cloud TPU pods, and on one GPU or a laptop's CPU.

Importing it makes the libraries use our client for gs:// paths (`pipeline/storage`), through fsspec. Otherwise `etils.epath`
would use TensorFlow's client wherever TensorFlow is installed, and import it into every process.
"""

import importlib.util
import os

os.environ["EPATH_USE_TF"] = "false"
if importlib.util.find_spec("fsspec") is not None:  # the launcher reads configurations in an environment without it
    import fsspec

    for protocol in ("gcs", "gs"):
        fsspec.register_implementation(protocol, "pipeline.storage.filesystem.BucketFileSystem", clobber=True)
