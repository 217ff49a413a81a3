import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kineflow.errors import ParamsError
from kineflow.registry.lineage import Lineage, lock_digest
from kineflow.registry.register import register_bundle
from kineflow.registry.trace import lineage_of, tag_run, versions_trained_on

Metrics = Callable[..., dict[str, Any]]
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def test_from_a_version_to_its_run_and_from_a_video_to_its_versions(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics
) -> None:
    found = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    tag_run(found, root=registry, flow_run="run 1")
    told = lineage_of("m", "challenger")
    assert (told["version"], told["flow_run"], told["code_commit"]) == ("1", "run 1", lineage.code_commit)
    assert "data_commit" not in told  # nothing is committed here
    (video, *_) = lineage.training_videos
    assert versions_trained_on(video) == [{"name": "m", "version": "1", "aliases": "challenger"}]
    assert versions_trained_on("0" * 64) == []
    with pytest.raises(ParamsError, match="no version '9'"):
        lineage_of("m", "9")


def test_a_later_run_finds_the_commit_that_names_the_data(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics, tmp_path: Path
) -> None:
    from dataclasses import replace

    root = tmp_path / "workspace"
    root.mkdir()
    stages = {"train": {"cmd": "t", "outs": ["models"]}, "register": {"cmd": "r", "deps": ["models"]}}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    lock = {"stages": {"train": {"cmd": "t", "outs": [{"path": "models", "md5": "1"}]}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    lineage = replace(lineage, lock_digest=lock_digest(root))
    found = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    tag_run(found, root=root, flow_run="run 1")
    assert "data_commit" not in lineage_of("m", "1")
    for arguments in (["add", "-A"], ["commit", "-qm", "data"]):
        subprocess.run([*GIT, *arguments], cwd=root, check=True)
    tag_run(found, root=root, flow_run="run 2")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    assert lineage_of("m", "1")["data_commit"] == head.stdout.strip()
    assert lineage_of("m", "1")["flow_run"] == "run 2"
