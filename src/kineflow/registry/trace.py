"""From a version back to all that it was made of, and from a video on to every version that was trained on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kineflow.errors import ParamsError
from kineflow.registry import tracking
from kineflow.registry.lineage import committed_lock, lock_digest
from kineflow.registry.register import LINEAGE_JSON, Registration, read_document, version_of

FLOW_RUN_TAG = "kineflow.flow_run"
DATA_COMMIT_TAG = "kineflow.data_commit"
PREFIX = "kineflow."


def tag_run(registration: Registration, *, root: Path, flow_run: str) -> None:
    """Tag a version with the flow run that made or confirmed it last, and with the commit that names its data.

    That commit is made after the run, so a later run that finds `dvc.lock` committed and unchanged writes it.

    Raises:
        ServiceError: the registry is out of reach.
    """
    tags = {FLOW_RUN_TAG: flow_run}
    client = tracking.client()
    found = version_of(client, registration.name, registration.version)
    commit = committed_lock(root)
    if found is not None and commit is not None and found.tags.get("kineflow.lock_digest") == lock_digest(root):
        tags[DATA_COMMIT_TAG] = commit
    for name, value in tags.items():
        client.set_model_version_tag(registration.name, registration.version, name, value)


def lineage_of(name: str, alias_or_version: str) -> dict[str, Any]:
    """All that a version was made of: its lineage document and the tags that later runs added.

    Raises:
        ParamsError: there is no such version.
        ServiceError: the registry is out of reach.
    """
    client = tracking.client()
    found = version_of(client, name, alias_or_version)
    if found is None:
        raise ParamsError(f"the registry has no version {alias_or_version!r} of the model {name!r}")
    document: dict[str, Any] = read_document(client, found.run_id, LINEAGE_JSON)
    later = {tag: found.tags[PREFIX + tag] for tag in ("flow_run", "data_commit") if PREFIX + tag in found.tags}
    return {"name": name, "version": str(found.version)} | later | document


def versions_trained_on(video_sha256: str) -> list[Mapping[str, str]]:
    """Every version of every model whose training videos include a content, oldest first.

    Returns:
        For each: `name`, `version`, and its `aliases`, joined by commas.

    Raises:
        ServiceError: the registry is out of reach.
    """
    client = tracking.client()
    found = []
    for version in _all_versions(client):
        document = read_document(client, version.run_id, LINEAGE_JSON)
        if video_sha256 in document["training_videos"]:
            aliases = client.get_model_version(version.name, version.version).aliases
            found.append({"name": version.name, "version": str(version.version), "aliases": ", ".join(aliases)})
    return sorted(found, key=lambda row: (row["name"], int(row["version"])))


def _all_versions(client: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_model_versions(f"tags.`{PREFIX}digest` != ''", page_token=token)
        found += page
        token = page.token
        if not token:
            return found
