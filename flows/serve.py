"""Serve the flows of prefect.yaml with their schedules: `make serve`.

    .venv/bin/python -m flows.serve

Uses the Prefect API at PREFECT_API_URL, or starts a server on loopback that stays when this ends
(`kineflow services down` ends it). Runs happen in this workspace, one at a time.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from kineflow import services
from kineflow.errors import KineflowError, ParamsError
from kineflow.services import servers

PREFECT_YAML = Path("prefect.yaml")


def main() -> int:
    """Start what is needed, print the addresses, and serve until Ctrl-C or a signal."""
    try:
        deployments = read_deployments(PREFECT_YAML)
        print(services.table(services.up(services.NAMES)))
        os.environ["PREFECT_API_URL"] = servers.prefect_api_url() or ""
        _serve(deployments)
    except KineflowError as err:
        print(f"serve: error: {' '.join(str(err).split())}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


def read_deployments(path: Path) -> list[dict[str, Any]]:
    """The deployments of a prefect.yaml.

    Raises:
        ParamsError: it is not there or names none.
    """
    try:
        found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["deployments"]
    except FileNotFoundError as err:
        raise ParamsError(f"{path} is not there; run this in the workspace") from err
    except (yaml.YAMLError, KeyError, TypeError) as err:
        raise ParamsError(f"{path} names no deployments: {' '.join(str(err).split())}") from err
    return found


def _serve(deployments: list[dict[str, Any]]) -> None:
    from prefect import flow, serve  # after PREFECT_API_URL is known: Prefect reads it once

    served = []
    for values in deployments:
        loaded: Any = flow.from_source(source=str(Path.cwd()), entrypoint=values["entrypoint"])
        served.append(
            loaded.to_deployment(
                name=values["name"],
                description=values.get("description"),
                parameters=values.get("parameters", {}),
                tags=values.get("tags", []),
                concurrency_limit=values.get("concurrency_limit"),
                schedules=[_cron(schedule) for schedule in values.get("schedules", [])],
            )
        )
        when = ", ".join(_shown(schedule) for schedule in values.get("schedules", [])) or "on demand"
        print(f"{values['entrypoint'].rpartition(':')[2]}/{values['name']}: {when}")
    print(f"serving at {(os.environ['PREFECT_API_URL']).removesuffix('/api')}; Ctrl-C ends it", flush=True)
    serve(*served, pause_on_shutdown=False, limit=1)


def _cron(schedule: dict[str, Any]) -> Any:
    from prefect.schedules import Cron

    return Cron(schedule["cron"], timezone=schedule.get("timezone"), active=schedule.get("active", True))


def _shown(schedule: dict[str, Any]) -> str:
    return f"{schedule['cron']}{'' if schedule.get('active', True) else ' (off)'}"


if __name__ == "__main__":
    sys.exit(main())
