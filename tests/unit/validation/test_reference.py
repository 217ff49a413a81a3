"""docs/reference/validation_rules.md names every rule, with its severity and its meaning.

That its example is a line that the rule failed with is held by the tests of the gates.
"""

from kineflow.validation.catalogue import catalogue, rule_names
from tests.unit.validation.documented import documented


def test_the_reference_lists_every_rule_of_each_gate_and_no_other() -> None:
    found = {
        gate: {name: (entry.severity, entry.sentence) for name, entry in entries.items()}
        for gate, entries in documented().items()
    }
    assert found == {
        gate: {rule.name: (rule.severity, rule.sentence) for rule in rules} for gate, rules in catalogue().items()
    }


def test_names_are_unique_across_the_gates() -> None:
    assert len(set(rule_names())) == len(rule_names())
