"""Every rule of every gate, for the names that `validation.severity` may use and for the reference in the docs."""

from kineflow.validation.dataset_rules import dataset_rules
from kineflow.validation.prediction_rules import prediction_rules
from kineflow.validation.raw_rules import raw_rules
from kineflow.validation.rules import Rule

MIN_FRAMES, MIN_CLIPS_PER_CLASS, MAX_QUARANTINED_FRACTION = 8, 2, 0.2  # stand for those of params


def catalogue() -> dict[str, tuple[Rule, ...]]:
    """The rules of each gate for both tasks, each once."""
    raw, dataset, predictions = dict[str, Rule](), dict[str, Rule](), dict[str, Rule]()
    for task in ("clip", "frame"):
        of_raw = raw_rules(
            task=task,
            min_frames=MIN_FRAMES,
            min_clips_per_class=MIN_CLIPS_PER_CLASS,
            max_quarantined_fraction=MAX_QUARANTINED_FRACTION,
        )
        of_dataset = dataset_rules(
            task=task,
            min_frames=MIN_FRAMES,
            min_clips_per_class=MIN_CLIPS_PER_CLASS,
            official=False,
            with_flow=True,
            with_pose=True,
        )
        raw |= {rule.name: rule for rule in of_raw}
        dataset |= {rule.name: rule for rule in of_dataset}
        predictions |= {rule.name: rule for rule in prediction_rules(labels="exclusive")}
    gates = {"raw": raw, "dataset": dataset, "predictions": predictions}
    return {gate: tuple(rules.values()) for gate, rules in gates.items()}


def rule_names() -> tuple[str, ...]:
    """Names of all rules."""
    return tuple(rule.name for rules in catalogue().values() for rule in rules)
