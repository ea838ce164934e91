"""MnasNet's reward: accuracy times a power of the relative cost. The soft form trades one for the other; the hard has a limit.

Source: Tan et al., arXiv 1807.11626, equations 2 and 3. EfficientNet-B0 was searched with the soft form, the exponent -0.07 and
multiply-adds as the cost (arXiv 1905.11946, section 4).
"""

import dataclasses

FORMS = ("soft", "hard")
_HARD_EXPONENT = -1.0


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward.

    Attributes:
      form: "soft": accuracy * (cost / target) ** exponent. "hard": the accuracy itself up to the target, and above it
        accuracy * (cost / target) ** -1.
      target: The cost at which the reward is the accuracy, in the unit of the costs.
      exponent: Of the soft form.
    """

    form: str
    target: float
    exponent: float

    def __call__(self, accuracy: float, cost: float) -> float:
        """Returns the reward of a network; higher is better."""
        ratio = cost / self.target
        if self.form == "soft":
            return accuracy * ratio**self.exponent
        return accuracy * (1.0 if ratio <= 1 else ratio**_HARD_EXPONENT)
