"""From a model back to everything it was made of.

The params and data are those of the lock entries of the ancestors of the stage `register`, so a change that no
ancestor depends on (another stage's params, a comment in the README) leaves the digest as it is.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from kineflow.store import digest, file_sha256

CODE = ("src", "flows", "dvc.yaml", "pyproject.toml", "constraints.txt")  # params are recorded by value
STAGE = "register"
LIBRARIES = ("kineflow", "torch", "torchvision", "timm", "numpy", "av", "opencv-contrib-python-headless", "ray", "dvc")


@dataclass(frozen=True)
class Lineage:
    """What a registered version was made of.

    Args:
        code_commit: of the workspace; None outside git.
        code_dirty: whether code differed from that commit (params and what a run writes do not count).
        lock_digest: of the dvc.lock entries of the ancestors of `register`; None if there is no lock.
        sources_sha256: of data/sources.tsv, which names every input file with its hash.
        params: those that any ancestor depends on, flat, by dotted key.
        params_digest: of `params`.
        folds_digest: of clips, labels, roles and folds; scores are comparable fold by fold where it is equal.
        versions: library versions.
        release_stream: rgb, flow, pose, fusion or student.
        training_groups: of the videos that the model was trained on.
        training_videos: their SHA-256.
    """

    code_commit: str | None
    code_dirty: bool | None
    lock_digest: str | None
    sources_sha256: str | None
    params: dict[str, Any]
    params_digest: str
    folds_digest: str | None
    versions: dict[str, str]
    release_stream: str
    training_groups: tuple[str, ...]
    training_videos: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As lineage.json holds it."""
        return asdict(self)


def collect(
    root: Path,
    *,
    release_stream: str,
    training_groups: tuple[str, ...],
    training_videos: tuple[str, ...],
    clips: Path,
    folds: Path,
    sources: Path,
) -> Lineage:
    """The lineage of a release model of the workspace `root`.

    Args:
        training_groups: as the bundle says.
        training_videos: SHA-256 of each, as the bundle says.
        clips: the clips table.
        folds: the folds table.
        sources: the manifest that sync wrote.
    """
    entries = ancestor_entries(root, STAGE)
    params = _params_of(entries)
    commit, dirty = code_version(root)
    return Lineage(
        code_commit=commit,
        code_dirty=dirty,
        lock_digest=lock_digest(root),
        sources_sha256=file_sha256(sources) if sources.is_file() else None,
        params=params,
        params_digest=digest(params=params),
        folds_digest=folds_digest(clips, folds) if clips.is_file() and folds.is_file() else None,
        versions=library_versions(),
        release_stream=release_stream,
        training_groups=training_groups,
        training_videos=training_videos,
    )


def lock_digest(root: Path) -> str | None:
    """Digest of the dvc.lock entries of the ancestors of `register`; None if there is no lock."""
    entries = ancestor_entries(root, STAGE)
    return digest(entries=entries) if entries else None


def committed_lock(root: Path) -> str | None:
    """The commit that dvc.lock came with; None where it is not committed as it is, or outside git."""
    if _git(root, "status", "--porcelain", "--", "dvc.lock") != "":
        return None
    return _git(root, "log", "-1", "--format=%H", "--", "dvc.lock") or None


def ancestor_entries(root: Path, stage: str) -> dict[str, Any]:
    """The dvc.lock entries of every stage that `stage` of dvc.yaml depends on, directly or not."""
    lock, graph = root / "dvc.lock", root / "dvc.yaml"
    if not (lock.is_file() and graph.is_file()):
        return {}
    entries = (yaml.safe_load(lock.read_text()) or {}).get("stages", {})
    stages = yaml.safe_load(graph.read_text())["stages"]
    wanted = [_path_of(dep) for dep in stages.get(stage, {}).get("deps", [])]
    found: dict[str, Any] = {}
    while wanted:
        path = wanted.pop()
        for name, entry in entries.items():
            if name in found or name == stage:
                continue
            if any(_overlap(path, out["path"]) for out in entry.get("outs", [])):
                found[name] = entry
                wanted += [dep["path"] for dep in entry.get("deps", [])]
    return dict(sorted(found.items()))


def code_version(root: Path) -> tuple[str | None, bool | None]:
    """The commit of the workspace and whether its code differs from it; (None, None) outside git."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    return commit, bool(_git(root, "status", "--porcelain", "--", *CODE))


def folds_digest(clips: Path, folds: Path) -> str:
    """Digest of who is trained and scored on what, whatever wrote the files."""
    from kineflow import tables

    clips_table = tables.read_table(clips, tables.CLIPS).sort_values("clip_id")
    folds_table = tables.read_table(folds, tables.FOLDS).sort_values(["clip_id", "fold", "role"])
    return digest(clips=json.loads(clips_table.to_json(orient="values")), folds=folds_table.values.tolist())


def library_versions() -> dict[str, str]:
    """Installed versions of what the result depends on."""
    return {name: version for name in LIBRARIES if (version := _installed(name)) is not None}


def _params_of(entries: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for entry in entries.values():
        for values in entry.get("params", {}).values():
            for key, value in values.items():
                flat |= _flatten(key, value)
    return dict(sorted(flat.items()))


def _flatten(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flatten(f"{key}.{name}", inner).items()}
    return {key: value}


def _path_of(dep: Any) -> str:
    return str(next(iter(dep))) if isinstance(dep, dict) else str(dep)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
