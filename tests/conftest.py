"""Eight virtual CPU devices for the whole suite, chosen before anything can start a JAX backend."""

import os
import signal

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
