"""docs/reference/validation_rules.md names every rule, with its severity, its meaning and a failure of it."""

import re
from pathlib import Path

from kineflow.validation.catalogue import catalogue, rule_names

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "validation_rules.md"
ENTRY = re.compile(r"^- `(\w+)` \((stop|warn)\): (.+)\.\n  Fails as: `(.+)`$", re.MULTILINE)


def test_the_reference_lists_every_rule_of_each_gate_and_no_other() -> None:
    sections = re.split(r"^## Gate `(\w+)`$", REFERENCE.read_text(), flags=re.MULTILINE)[1:]
    found = {
        gate: {name: (severity, sentence) for name, severity, sentence, _ in ENTRY.findall(text)}
        for gate, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert found == {
        gate: {rule.name: (rule.severity, rule.sentence) for rule in rules} for gate, rules in catalogue().items()
    }


def test_each_example_is_the_line_of_its_rule() -> None:
    remedies = {rule.name: rule for rules in catalogue().values() for rule in rules}
    for name, _, sentence, example in ENTRY.findall(REFERENCE.read_text()):
        assert example.startswith(f"{name} is broken by ")
        assert example.endswith(f": {sentence}; {remedies[name].remedy}")


def test_names_are_unique_across_the_gates() -> None:
    assert len(set(rule_names())) == len(rule_names())
