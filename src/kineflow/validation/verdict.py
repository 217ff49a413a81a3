"""`reports/gates/*.json`: what a gate that opened found, for the stages after it and for the report."""

import json
from pathlib import Path
from typing import Any

from kineflow.atomic import write_text
from kineflow.schema import FileSchema

SCHEMA = FileSchema("gate", version=1, remedy="run the stage of this gate again")


def write_verdict(path: Path, gate: str, rules: list[dict[str, Any]]) -> None:
    """Write what a gate found, whole or not at all: no time and no path, so that equal data give equal bytes."""
    verdict = {"gate": gate, "version": SCHEMA.version, "rules": rules}
    write_text(path, json.dumps(verdict, indent=1, ensure_ascii=False) + "\n")


def read_verdict(path: Path) -> dict[str, Any]:
    """What `write_verdict` wrote.

    Raises:
        DataError: it is of another version.
    """
    verdict: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    SCHEMA.check(path, verdict.get("version"))
    return verdict
