"""The default study of `python -m pipeline.scale`: every value, with its source.

`configs/scale_*.py` start from it and change a few lines. The trials of a study are ordinary runs of the trainer; `train` names
their configuration.

Source: [paper] Tan and Le, arXiv 1905.11946, sections 3.3 and 5.1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the paper's study of B0. The paper does not say how long its trials trained."""
    config = ConfigDict()
    config.train = "configs/b0.py"  # the configuration of every trial
    config.overrides = ()  # overrides of its keys, as on the command line: ("duration=100 epochs", "data.flip=False")
    config.baselines = ("b0",)  # the networks to scale, each by itself; see pipeline/model/variants.py
    config.tolerance = 0.03  # largest relative difference between the true costs of compared networks

    config.search = ConfigDict(
        {
            "times": 2.0,  # the budget, in costs of the baseline [paper]
            "step": 0.1,  # step of the grid over alpha, beta and gamma; the paper's values are multiples of 0.05
            "slack": 0.05,  # relative error of alpha * beta**2 * gamma**2; the paper's own misses 2 by 0.04
            "candidates": 0,  # the most that are trained, spread over the grid; 0: all
            "seeds": 1,
        }
    )
    config.comparison = ConfigDict(
        {
            "times": (2.0, 4.0),  # budgets, in costs of the baseline
            "seeds": 3,  # runs of each network, for the confidence intervals
        }
    )
    config.maps = 4  # images whose class-activation maps are drawn for each way [paper, figure 7]; 0: none
    return config
