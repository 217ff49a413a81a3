"""Prefect flows: when the graph is built, by whom it is watched, and what follows from it.

Prefect reads its settings once, when it is imported; so they are settled here, before any flow imports it. What
the environment says already stays.
"""

import os
from pathlib import Path

from kineflow.store import home

SETTINGS = {
    "PREFECT_HOME": str((home() / "prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_WRAP_LINES": "false",
    "PREFECT_LOGGING_COLORS": "false",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes no parents
