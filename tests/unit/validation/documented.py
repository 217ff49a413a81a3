"""What docs/reference/validation_rules.md says of each rule."""

import re
from pathlib import Path
from typing import NamedTuple

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "validation_rules.md"
ENTRY = re.compile(r"^- `(\w+)` \((stop|warn)\): (.+)\.\n  Fails as: `(.+)`$", re.MULTILINE)


class Entry(NamedTuple):
    """One rule as it is documented."""

    severity: str
    sentence: str
    failure: str


def documented() -> dict[str, dict[str, Entry]]:
    """The entries of each gate, by rule."""
    sections = re.split(r"^## Gate `(\w+)`$", REFERENCE.read_text(), flags=re.MULTILINE)[1:]
    return {
        gate: {name: Entry(*words) for name, *words in ENTRY.findall(text)}
        for gate, text in zip(sections[::2], sections[1::2], strict=True)
    }


def documented_failure(gate: str, name: str) -> str:
    """The line that the rule failed with in the test of its gate."""
    return documented()[gate][name].failure
