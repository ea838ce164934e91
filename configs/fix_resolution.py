"""FixRes: weights that were trained at one size, adjusted to the larger one at which they are used, at almost no cost.

launch/local.sh --config configs/fashion_mnist.py --config.image_size=20 --workdir runs/small
launch/local.sh --config configs/fix_resolution.py --workdir runs/fixed --config.init_from=runs/small

Random crops make objects larger in training than in evaluation, and a larger image makes up for it; then the activations
before the classifier have another distribution. So the classifier and the last BatchNorm are trained a little, on images
prepared as in evaluation, and nothing else is (Touvron et al., arXiv 1906.06423). Published: + 1.7 points for B0, at 320
pixels, and for B1 (facebookresearch/FixRes). For another network start from its configuration: what follows is the method.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist


def get_config() -> ConfigDict:
    config = fashion_mnist.get_config()
    config.init_from = "runs/small"
    config.image_size = 28  # the size of use; B0's 320
    config.finetune.trained = "classifier_and_last_norm"
    config.model.survival_probability = 1.0  # what is not trained is not disturbed
    config.data.crop = "evaluation"
    config.data.augment = "none"
    config.duration = "2 epochs"
    config.schedule.warmup = "0.2 epochs"
    config.schedule.lr_per_256 = 0.002
    config.ema.decay = 0.99
    config.evaluation.every = "1 epochs"
    return config
