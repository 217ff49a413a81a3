"""Point DVC's remote `storage` at the S3 in use, through `.dvc/config.local` (private, never in git).

The `dvc remote modify` command takes a second for each value; the file is written directly instead.
"""

import os
from pathlib import Path
from typing import Any

from kineflow.services import process, s3

SECTION = 'remote "storage"'
CONFIG = Path(".dvc/config.local")


def point_dvc_at_s3() -> None:
    """Write the section of the remote, and leave the rest of the file alone. No-op outside a DVC workspace."""
    if not CONFIG.parent.is_dir():
        return
    values = _own_values() if s3.own_remote() else _embedded_values()
    config = _read()
    if config.get(SECTION) == values:
        return
    config[SECTION] = values
    if not values:
        del config[SECTION]
    process.write_private(CONFIG, "\n".join(config.write()) + "\n")


def url() -> str:
    """The remote's URL as DVC sees it."""
    local = _read().get(SECTION, {}).get("url")
    if local:
        return str(local)
    committed = _parse(CONFIG.with_name("config"))
    return str(committed.get(SECTION, {}).get("url", ""))


def endpoint() -> str | None:
    """The S3 endpoint of the remote, None where it is AWS or no S3."""
    found = _read().get(SECTION, {}).get("endpointurl")
    return str(found) if found else None


def _embedded_values() -> dict[str, str]:
    found = s3.settings()
    if found is None:
        return {}
    return {
        "endpointurl": found.url,
        "access_key_id": found.access_key_id,
        "secret_access_key": found.secret_access_key,
        "region": s3.REGION,
    }


def _own_values() -> dict[str, str]:
    """Credentials stay where boto3 looks for them: the environment, a profile, a role."""
    values = {"url": os.environ.get("KINEFLOW_REMOTE", "")}
    values["endpointurl"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if values["url"] and not values["url"].startswith("s3://"):
        del values["endpointurl"]
    return {name: value for name, value in values.items() if value}


def _read() -> Any:
    return _parse(CONFIG if CONFIG.is_file() else None)


def _parse(path: Path | None) -> Any:
    import configobj  # type: ignore[import-untyped]

    return configobj.ConfigObj(path.read_text().splitlines() if path else None)
