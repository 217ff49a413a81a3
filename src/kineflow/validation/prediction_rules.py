"""The rules of the gate `predictions`, on what the models say of the clips that they may be scored on."""

from kineflow.validation.rules import Rule, at_least, at_most, equal_to

SUM_TOLERANCE = 1e-6
SMALLEST_SPREAD = 1e-3  # of a probability: below it a model says the same of everything


def prediction_rules(*, labels: str) -> tuple[Rule, ...]:
    """The rules with their default severities; the first broken one is the one that is told."""
    again = "train that stream again"
    sums = Rule(
        "probabilities_sum_to_one",
        "the probabilities of classes that exclude each other must sum to one",
        "check how the models are fused, and report it as a bug",
        "stop", "probabilities", "sum_error", *at_most(SUM_TOLERANCE),
    )  # fmt: skip
    return (
        Rule(
            "prediction_of_scored_clip",
            "a model may predict the clips of its own fold, and no other",
            f"it is scored on what it saw (a leak), or its clips are gone: {again}",
            "stop", "predictions", "rows", *equal_to("to be scored"),
        ),
        Rule(
            "clip_predicted",
            "every clip of a fold, and every frame of it, must be predicted",
            again,
            "stop", "predictions", "num_missing", *at_most(0),
        ),
        Rule(
            "clip_predicted_once",
            "every clip of a fold, and every frame of it, must be predicted once",
            again,
            "stop", "predictions", "num_repeated", *at_most(0),
        ),
        Rule(
            "prediction_finite",
            "every prediction must be a number",
            f"its training diverged: lower streams.<name>.lr, or set train.grad_clip_norm, and {again}",
            "stop", "predictions", "num_not_finite", *at_most(0),
        ),
        Rule(
            "probabilities_in_range",
            "every probability must be between 0 and 1",
            "check how the models are fused, and report it as a bug",
            "stop", "probabilities", "out_of_range", *at_most(0),
        ),
        *((sums,) if labels == "exclusive" else ()),
        Rule(
            "predictions_vary",
            f"some probability of a model should differ by {SMALLEST_SPREAD:g} between clips",
            "it says the same of everything, so it learned nothing: look at its curves, and at streams.<name>.lr",
            "warn", "models", "largest_spread", *at_least(SMALLEST_SPREAD),
        ),
    )  # fmt: skip
