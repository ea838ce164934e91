"""What a scaling study is: every number of `python -m pipeline.scale`, with where it comes from.

`configs/scale_*.py` take this and change a few lines. A study is not trained itself: `train` names the configuration of its
trials, which are ordinary runs of the trainer.

Source: [paper] Tan and Le, arXiv 1905.11946, sections 3.3 and 5.1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a study of B0 as the paper describes it, except that the paper does not say how long it trained."""
    config = ConfigDict()
    config.train = "configs/b0.py"  # the configuration of every trial
    config.overrides = ()  # of its keys, as on the command line: ("duration=100 epochs", "data.flip=False")
    config.baselines = ("b0",)  # what is scaled, each by itself; see pipeline/model/variants.py
    config.tolerance = 0.03  # how far apart, relatively, the true costs may be of what is compared

    config.search = ConfigDict(
        {
            "times": 2.0,  # the budget, in costs of the baseline [paper]
            "step": 0.1,  # of the grid over alpha, beta and gamma; the paper's values are multiples of 0.05
            "slack": 0.05,  # how far alpha * beta**2 * gamma**2 may be from the budget; the paper's own misses 2 by 0.04
            "candidates": 0,  # train so many at most, spread over the grid; 0: all
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
