"""Compound scaling of two small networks on Fashion-MNIST: does it beat scaling one dimension, on a laptop?

python -m pipeline.prepare --image_folder FOLDER --name fashion_mnist     (FOLDER/train/<class>/*.png, FOLDER/test/…)
python -m pipeline.scale --config configs/scale_fashion_mnist.py --workdir runs/scale_fashion_mnist --parallel 2

Two baselines of about 1.6 million multiply-adds, eight and nine candidates of twice that, then the four ways at 2 and 4
times the cost with three seeds. They begin at 20 and 16 pixels, so that there is something to see at 28. Each run is a cosine
to zero of its own; docs/scaling.md says what it costs.
"""

from ml_collections import ConfigDict

from configs import scale


def get_config() -> ConfigDict:
    config = scale.get_config()
    config.train = "configs/fashion_mnist.py"
    config.overrides = (
        "duration=6 epochs",
        "batch_size=128",
        "schedule.warmup=0.5 epochs",
        "model.bn_momentum=0.99",  # MobileNetV2's own 0.999 is for longer runs
        "evaluation.every=6 epochs",
        "checkpoint.every=1 epochs",
        "checkpoint.keep=1",
        "log.every=1 epochs",
    )
    config.baselines = ("mini0:width=0.6,resolution=20", "mobilenet_v2_small:width=0.75,resolution=16")
    config.search.step = 0.05
    return config
