"""Put a release model into the registry, and take it out again.

The identity of a version is the digest of its bundle's files: registering the same content twice gives the same
version, and nothing is opened that does not have the digest it was registered with.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineflow.atomic import DAY_SEC, PREFIX, sweep
from kineflow.errors import DataError, ParamsError
from kineflow.registry import tracking
from kineflow.registry.lineage import Lineage
from kineflow.store import digest, file_sha256, home

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
CHAMPION = "champion"
BUNDLE = "bundle"
DIGEST_TAG = "kineflow.digest"
METRICS_TAG = "kineflow.metrics_digest"
FILES_TAG = "kineflow.num_files"
BYTES_TAG = "kineflow.num_bytes"
LINEAGE_JSON = "lineage.json"
MAX_PARAM_CHARS = 6000  # MLflow's limit


@dataclass(frozen=True)
class Registration:
    """A version in the registry.

    Args:
        digest: of its bundle's files.
        run_id: of the MLflow run that holds metrics, report and bundle.
    """

    name: str
    version: str
    digest: str
    run_id: str


def bundle_digest(bundle_dir: Path) -> str:
    """Digest of the names and contents of a bundle's files.

    Raises:
        DataError: it is empty, or holds something other than plain files and folders.
    """
    files: dict[str, object] = {}
    for path in sorted(bundle_dir.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{path}: a release model holds plain files only; make it again")
        if path.is_file():
            files[path.relative_to(bundle_dir).as_posix()] = file_sha256(path)
    if not files:
        raise DataError(f"{bundle_dir}: holds no release model; run the training stages")
    return digest(files=files)


def register_bundle(
    bundle_dir: Path,
    *,
    model_name: str,
    metrics: Mapping[str, Any],
    lineage: Lineage,
    documents: tuple[Path, ...] = (),
    tags: Mapping[str, str] | None = None,
) -> Registration:
    """Register a bundle and make it the challenger.

    The same files with the same metrics give the version that they already have, with the lineage of its first
    registration. Other metrics (other baselines, say) make a new version: what a version was judged by never changes.

    Args:
        bundle_dir: what becomes the version's source.
        metrics: as metrics.json.
        documents: files for people (report, model card), kept beside the bundle.
        tags: more to be said of a new version and its run.

    Raises:
        ServiceError: the registry is out of reach.
        DataError: the bundle is empty.
    """
    from filelock import FileLock

    content = bundle_digest(bundle_dir)
    client = tracking.client()
    with FileLock(home() / "register.lock"), tracking.service_errors():
        _ensure_model(client, model_name)
        evidence = digest(metrics=metrics)
        known = find_version(client, model_name, content, evidence)
        if known is None:
            run = client.create_run(tracking.experiment_id(client, model_name), run_name=content[:12])
            run_id = str(run.info.run_id)
        else:
            run_id = str(known.run_id)
        if known is None or not _holds(client, run_id, content):
            client.log_artifacts(run_id, str(bundle_dir), BUNDLE)
        if LINEAGE_JSON not in {item.path for item in client.list_artifacts(run_id)}:
            _log_documents(client, run_id, metrics, lineage, documents)
        if known is None:
            more = {**_lineage_tags(lineage), **(tags or {})}
            _log_scores(client, run_id, metrics, lineage, more)
            client.set_terminated(run_id)
            source = f"{client.get_run(run_id).info.artifact_uri}/{BUNDLE}"
            identity = {DIGEST_TAG: content, METRICS_TAG: evidence} | _size_tags(bundle_dir)
            known = client.create_model_version(model_name, source=source, run_id=run_id, tags=identity | more)
        client.set_registered_model_alias(model_name, CHALLENGER, known.version)
    return Registration(model_name, str(known.version), content, run_id)


def contains(registration: Registration) -> bool:
    """Whether the registry still holds that version with all of its files.

    Raises:
        ServiceError: the registry is out of reach.
    """
    client = tracking.client()
    try:
        found = client.get_model_version(registration.name, registration.version)
    except Exception as err:
        if _is_absent(err):
            return False
        raise tracking.unreachable(err) from err
    if found.tags.get(DIGEST_TAG) != registration.digest:
        return False
    with tracking.service_errors():
        return _is_whole(client, found)


def load_bundle_path(name: str, alias_or_version: str) -> Path:
    """A local folder with the bundle of a version, its digest checked before anything in it is opened.

    Args:
        name: of the registered model.
        alias_or_version: `champion`, `challenger`, or a number.

    Raises:
        ParamsError: there is no such model, alias or version.
        DataError: what the registry holds is not what was registered.
        ServiceError: the registry is out of reach.
    """
    client = tracking.client()
    found = version_of(client, name, alias_or_version)
    if found is None:
        raise ParamsError(f"the registry has no version {alias_or_version!r} of the model {name!r}")
    wanted = found.tags.get(DIGEST_TAG)
    if not wanted:
        raise DataError(f"{name} version {found.version} was not registered by kineflow, so nothing vouches for it")
    target = home() / "bundles" / wanted
    if target.is_dir() and bundle_digest(target) == wanted:
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, older_than_sec=DAY_SEC)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=target.parent) as partial:
        with tracking.service_errors():
            client.download_artifacts(found.run_id, BUNDLE, partial)
        if bundle_digest(Path(partial) / BUNDLE) != wanted:
            raise DataError(
                f"{name} version {found.version}: its files are not those that were registered (sha256 differs); "
                "`kineflow stage register` uploads them again where this workspace made them"
            )
        (Path(partial) / BUNDLE).replace(target)
    return target


def version_of(client: "MlflowClient", name: str, alias_or_version: str) -> Any | None:
    """The model version that an alias or number names, None where there is none."""
    try:
        if alias_or_version.isdecimal():
            return client.get_model_version(name, alias_or_version)
        return client.get_model_version_by_alias(name, alias_or_version)
    except Exception as err:
        if _is_absent(err):
            return None
        raise tracking.unreachable(err) from err


def find_version(client: "MlflowClient", name: str, content: str, evidence: str) -> Any | None:
    """The first version whose bundle has the digest `content` and its metrics `evidence`, None where there is none."""
    wanted = f"tags.`{DIGEST_TAG}` = '{content}' and tags.`{METRICS_TAG}` = '{evidence}'"
    found = client.search_model_versions(f"name = '{name}' and {wanted}")
    return min(found, key=lambda version: int(version.version), default=None)


def read_document(client: "MlflowClient", run_id: str, name: str) -> Any:
    """A JSON document that was registered with a version, for example metrics.json."""
    with tempfile.TemporaryDirectory() as folder, tracking.service_errors():
        return json.loads(Path(client.download_artifacts(run_id, name, folder)).read_text())


def _log_documents(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, Any], lineage: Lineage, documents: tuple[Path, ...]
) -> None:
    for document in documents:
        client.log_artifact(run_id, str(document))
    with tempfile.TemporaryDirectory() as folder:  # the lineage last: where it is, the others are
        for name, values in (("metrics.json", metrics), (LINEAGE_JSON, lineage.as_json())):
            path = Path(folder) / name
            path.write_text(json.dumps(values, indent=1) + "\n")
            client.log_artifact(run_id, str(path))


def _log_scores(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, Any], lineage: Lineage, tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now_ms = int(time.time() * 1000)
    scores = [Metric(name, value, now_ms, 0) for name, value in flat_metrics(metrics).items()]
    params = [Param(key, json.dumps(value)[:MAX_PARAM_CHARS]) for key, value in lineage.params.items()]
    for start in range(0, len(params), 100):  # MLflow takes 100 at a time
        client.log_batch(run_id, params=params[start : start + 100])
    client.log_batch(run_id, metrics=scores, tags=[RunTag(key, value) for key, value in tags.items()])


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores of metrics.json by slash-separated names, means with their standard deviations; nulls left out."""
    flat: dict[str, float] = {}
    for part in ("cv", "test", "baselines"):
        for stream, scores in (metrics.get(part) or {}).items():
            for metric, value in scores.items():
                values = {"": value} if not isinstance(value, Mapping) else {"": value["mean"], ".std": value["std"]}
                flat |= {f"{part}/{stream}/{metric}{k}": float(v) for k, v in values.items() if v is not None}
    return flat


def _lineage_tags(lineage: Lineage) -> dict[str, str]:
    values = {
        "code_commit": lineage.code_commit,
        "code_dirty": lineage.code_dirty,
        "lock_digest": lineage.lock_digest,
        "sources_sha256": lineage.sources_sha256,
        "params_digest": lineage.params_digest,
        "folds_digest": lineage.folds_digest,
        "release_stream": lineage.release_stream,
    } | {f"version.{name}": version for name, version in lineage.versions.items()}
    return {f"kineflow.{name}": str(value) for name, value in values.items() if value is not None}


def _size_tags(bundle_dir: Path) -> dict[str, str]:
    sizes = [path.stat().st_size for path in bundle_dir.rglob("*") if path.is_file()]
    return {FILES_TAG: str(len(sizes)), BYTES_TAG: str(sum(sizes))}


def _holds(client: "MlflowClient", run_id: str, content: str) -> bool:
    """Whether the registry holds exactly this content, byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetched = Path(client.download_artifacts(run_id, BUNDLE, folder))
            return bundle_digest(fetched) == content
        except Exception as err:
            if isinstance(err, DataError | OSError) or _is_absent(err):
                return False
            raise


def _is_whole(client: "MlflowClient", version: Any) -> bool:
    """Whether as many files and bytes are there as were registered; nothing is fetched."""
    sizes = list(_artifact_sizes(client, version.run_id, BUNDLE))
    return {FILES_TAG: str(len(sizes)), BYTES_TAG: str(sum(sizes))}.items() <= version.tags.items()


def _artifact_sizes(client: "MlflowClient", run_id: str, path: str) -> Iterator[int]:
    for item in client.list_artifacts(run_id, path):
        if item.is_dir:
            yield from _artifact_sizes(client, run_id, item.path)
        else:
            yield int(item.file_size or 0)


def _ensure_model(client: "MlflowClient", name: str) -> None:
    try:
        client.get_registered_model(name)
    except Exception as err:
        if not _is_absent(err):
            raise
        client.create_registered_model(name)


def _is_absent(err: Exception) -> bool:
    code = getattr(err, "error_code", "")
    absent_alias = code == "INVALID_PARAMETER_VALUE" and "alias" in str(err)
    return code == "RESOURCE_DOES_NOT_EXIST" or absent_alias
