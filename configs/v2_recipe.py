"""The published EfficientNetV2 recipe, as changes to that of the first generation; `configs/v2_*.py` add network and sizes.

Sources: google/automl, efficientnetv2, in the named files; Tan and Le, arXiv 2104.00298. This is the code's recipe. The
paper's table 6 has larger images and magnitudes and a rising dropout, where the code's dropout is constant
(google/automl#1175). A user of the code got 83.46 (S) and 84.46 (M) instead of 83.9 and 85.2 (google/automl#1024, unanswered).
The authors trained 107,336 steps on 1,256,144 images, ImageNet without their validation images; 350 epochs of all images are
109,475 steps. BatchNorm's momentum, L2's scope and dropout come with the network.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    """Returns the recipe of B0 to B3; their AutoAugment has no magnitude to raise."""
    config = recipe.get_config()
    config.model.bn_batch = 1024  # 8 cores share statistics [hparams.py], with 128 images each on the paper's 32 cores
    config.progressive.stages = 4  # [main.py]
    config.data.crop_area = (0.05, 1.0)  # [preprocessing.py]
    config.data.crop_covers = 0.0  # [preprocessing.py]
    config.data.resize = "bilinear"  # [preprocessing.py]
    config.data.mean_rgb = (128.0, 128.0, 128.0)  # [preprocessing.py]
    config.data.stddev_rgb = (128.0, 128.0, 128.0)  # [preprocessing.py]
    config.loss.mix_semantics = "published"
    config.launch.accelerator_type = "v5litepod-32"
    return config


def get_large_config() -> ConfigDict:
    """Returns the recipe of S, M and L."""
    config = get_config()
    config.data.augment = "randaugment"  # its magnitude rises from 5 [main.py]
    config.data.eval_crop = "none"  # from 320 pixels on: the whole image, its aspect not kept [preprocessing.py]
    return config
