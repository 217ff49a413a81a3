"""Every rule of every gate, for the names that `validation.severity` may use and for the reference in the docs."""

from kineflow.validation.dataset_rules import dataset_rules
from kineflow.validation.raw_rules import raw_rules
from kineflow.validation.rules import Rule


def catalogue() -> dict[str, tuple[Rule, ...]]:
    """The rules of each gate for both tasks, each once; numbers in their sentences stand for those of params."""
    raw, dataset = dict[str, Rule](), dict[str, Rule]()
    for task in ("clip", "frame"):
        of_raw = raw_rules(task=task, min_clips_per_class=4, max_quarantined_fraction=0.1)
        of_dataset = dataset_rules(
            task=task, min_frames=8, min_clips_per_class=4, official=False, with_flow=True, with_pose=True
        )
        raw |= {rule.name: rule for rule in of_raw}
        dataset |= {rule.name: rule for rule in of_dataset}
    return {"raw": tuple(raw.values()), "dataset": tuple(dataset.values())}


def rule_names() -> tuple[str, ...]:
    """Names of all rules."""
    return tuple(rule.name for rules in catalogue().values() for rule in rules)
