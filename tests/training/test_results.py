"""What a finished run says of itself."""

from pipeline.training.results import log_results


def said(examples: int) -> str:
    lines = []
    values = {"top1": 0.5, "top5": 1.0, "loss": 1.0, "examples": examples}
    log_results(lines.append, {"ema": values}, "runs/b0", num_eval_examples=360)
    return lines[0]


def test_examples_that_could_not_be_decoded_are_told():
    assert said(360).endswith("50.00% top-1, 100.00% top-5, on all 360 examples.")
    assert said(358).endswith("on 358 of 360 examples; 2 could not be decoded and are left out.")
