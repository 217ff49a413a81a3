"""`registration.json`: the version of the registry that the graph made last."""

import json
from pathlib import Path
from typing import Any

from kineflow.atomic import write_text
from kineflow.schema import FileSchema

SCHEMA = FileSchema("registration", version=2, oldest=1, remedy="run the stage register again")


def write_registration(path: Path, values: dict[str, Any]) -> None:
    """Write name, version, digest, run_id, alias and tracking_uri, whole or not at all."""
    write_text(path, json.dumps({"schema_version": SCHEMA.version} | values, indent=1) + "\n")


def read_registration(path: Path) -> dict[str, Any]:
    """What `write_registration` wrote; version 1 did not say its version.

    Raises:
        DataError: it is of another version.
    """
    values: dict[str, Any] = json.loads(path.read_text())
    SCHEMA.check(path, values.pop("schema_version", 1))
    return values
