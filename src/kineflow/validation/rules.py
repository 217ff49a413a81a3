"""What a rule is: one expectation on one column of a table of facts, with its severity and its words.

A table of facts has one row for each video, event, class, clip ... and a column `item` that names the row. A null in
a rule's column means that the rule does not apply to the row.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kineflow.errors import ParamsError

Severity = Literal["stop", "warn"]

# The gate looks again at what `ingest` refuses, for tables that another tool has written.
HELD_BY_INGEST = frozenset(
    {
        "event_of_known_video",
        "event_starts_before_it_stops",
        "event_inside_video",
        "frame_labels_of_known_video",
        "frame_labels_inside_video",
    }
)


@dataclass(frozen=True)
class Rule:
    """One rule of a gate.

    Args:
        name: as in `validation.severity`.
        sentence: what must hold.
        remedy: what to do where it does not.
        severity: `stop` closes the gate, `warn` reports.
        table: the table of facts.
        column: of that table.
        expectation: a built-in column expectation of Great Expectations.
        arguments: of the expectation, beside the column.
        detail: the column that words a violation; None: the value itself.
    """

    name: str
    sentence: str
    remedy: str
    severity: Severity
    table: str
    column: str
    expectation: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    detail: str | None = None


def at_least(smallest: float) -> tuple[str, dict[str, object]]:
    """Expectation and arguments: values of at least `smallest`."""
    return "ExpectColumnValuesToBeBetween", {"min_value": smallest}


def at_most(largest: float) -> tuple[str, dict[str, object]]:
    """Expectation and arguments: values of at most `largest`."""
    return "ExpectColumnValuesToBeBetween", {"max_value": largest}


def between_exclusive(lower: float, upper: float) -> tuple[str, dict[str, object]]:
    """Expectation and arguments: values above `lower` and below `upper`."""
    return "ExpectColumnValuesToBeBetween", {
        "min_value": lower,
        "max_value": upper,
        "strict_min": True,
        "strict_max": True,
    }


def equal_to(value: object) -> tuple[str, dict[str, object]]:
    """Expectation and arguments: the one value `value`."""
    return "ExpectColumnValuesToBeInSet", {"value_set": [value]}


def absent() -> tuple[str, dict[str, object]]:
    """Expectation and arguments: null everywhere; a value words the violation."""
    return "ExpectColumnValuesToBeNull", {}


def with_severities(
    rules: Iterable[Rule], severities: Mapping[str, Severity], *, known_names: Iterable[str]
) -> tuple[Rule, ...]:
    """`rules` with the severities that params give by name.

    Raises:
        ParamsError: a name is none of `known_names`, or a rule that `ingest` holds already is to be loosened.
    """
    known = list(known_names)
    for name in sorted(set(severities) - set(known)):
        nearest = sorted(known, key=lambda rule: (-difflib.SequenceMatcher(None, name, rule).ratio(), rule))
        raise ParamsError(f"validation.severity.{name}: unknown rule; known, nearest first: {', '.join(nearest)}")
    for name in sorted(HELD_BY_INGEST & set(severities)):
        if severities[name] == "warn":
            raise ParamsError(
                f"validation.severity.{name}: cannot be warn, since ingest refuses what breaks it; "
                "correct the annotations"
            )
    return tuple(replace(rule, severity=severities.get(rule.name, rule.severity)) for rule in rules)
