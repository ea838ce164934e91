"""Compound scaling of two small networks on Fashion-MNIST: does it beat scaling one dimension, on a laptop?

python -m pipeline.prepare --image_folder FOLDER --name fashion_mnist     (FOLDER/train/<class>/*.png, FOLDER/test/…)
python -m pipeline.scale --config configs/scale_fashion_mnist.py --workdir runs/scale_fashion_mnist --parallel 2

The two baselines have about 1.6 million multiply-adds. The study trains eight and nine candidates of twice that cost, then
the four ways at 2 and 4 times the cost with three seeds. The baselines begin at 20 and 16 pixels, as the images have 28 and
larger inputs would show nothing new. Each run decays its learning rate to zero; docs/scaling.md says what the study costs.
"""

from ml_collections import ConfigDict

from configs import scale


def get_config() -> ConfigDict:
    config = scale.get_config()
    config.train = "configs/fashion_mnist.py"
    config.overrides = (
        "duration=5 epochs",
        "batch_size=128",
        "schedule.warmup=0.5 epochs",
        "model.bn_momentum=0.99",  # MobileNetV2's own 0.999 suits longer runs
        "evaluation.every=5 epochs",
        "checkpoint.every=1 epochs",
        "checkpoint.keep=1",
        "log.every=1 epochs",
    )
    config.baselines = ("mini0:width=0.6,resolution=20", "mobilenet_v2_small:width=0.75,resolution=16")
    config.search.step = 0.05
    return config
