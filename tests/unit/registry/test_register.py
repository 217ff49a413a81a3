"""The registry is a real MLflow on SQLite."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kineflow.errors import DataError, ParamsError, ServiceError
from kineflow.registry import tracking
from kineflow.registry.lineage import Lineage
from kineflow.registry.register import (
    bundle_digest,
    contains,
    flat_metrics,
    load_bundle_path,
    read_document,
    register_bundle,
)

Metrics = Callable[..., dict[str, Any]]


def test_the_same_content_is_the_same_version(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics
) -> None:
    first = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    again = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    assert again == first
    assert first.version == "1"
    scored_otherwise = register_bundle(bundle, model_name="m", metrics=metrics_of(0.8), lineage=lineage)
    assert scored_otherwise.version == "2"
    assert read_document(tracking.client(), first.run_id, "metrics.json") == metrics_of(0.9)
    (bundle / "rgb/weights.pt").write_bytes(b"other weights")
    other = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    assert other.version == "3"
    assert other.digest != first.digest
    assert register_bundle(bundle, model_name="other", metrics=metrics_of(0.9), lineage=lineage).version == "1"
    shutil.copytree(bundle, registry / "elsewhere")
    assert bundle_digest(registry / "elsewhere") == other.digest


def test_a_version_leads_to_its_lineage_scores_and_files(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    found = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage, documents=(report,))
    client = tracking.client()
    version = client.get_model_version_by_alias("m", "challenger")
    assert str(version.version) == found.version
    assert version.tags["kineflow.code_commit"] == "0" * 40
    assert version.tags["kineflow.sources_sha256"] == "2" * 64
    run = client.get_run(found.run_id)
    assert run.data.metrics["cv/rgb/video_top1_acc"] == 0.9
    assert run.data.metrics["baselines/majority/video_top1_acc"] == 0.5
    assert run.data.params["train.batch_size"] == "12"
    assert {item.path for item in client.list_artifacts(found.run_id)} >= {"bundle", "report.html", "metrics.json"}
    assert read_document(client, found.run_id, "lineage.json")["training_groups"] == ["g1", "g2"]
    assert version.source.endswith("/artifacts/bundle")
    loaded = load_bundle_path("m", "challenger")
    assert (loaded / "rgb/weights.pt").read_bytes() == bytes(range(256))
    assert load_bundle_path("m", "1") == loaded


def test_what_is_not_what_was_registered_is_not_opened(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics
) -> None:
    register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    stored = next((registry / ".kineflow/mlflow/artifacts").rglob("weights.pt"))
    stored.write_bytes(b"\0" * 256)
    with pytest.raises(DataError, match="not those that were registered"):
        load_bundle_path("m", "challenger")
    assert not list((registry / ".kineflow/bundles").rglob("weights.pt"))


def test_registering_again_heals_what_was_damaged_in_the_registry(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics
) -> None:
    found = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    (stored,) = registry.rglob("artifacts/**/bundle/rgb/weights.pt")
    content = stored.read_bytes()
    stored.write_bytes(bytes([content[0] ^ 1]) + content[1:])  # as long as before
    with pytest.raises(DataError, match="not those that were registered"):
        load_bundle_path("m", "1")
    assert register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage) == found
    assert bundle_digest(load_bundle_path("m", "1")) == found.digest


def test_a_damaged_local_copy_is_fetched_again(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics
) -> None:
    register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    copy = load_bundle_path("m", "challenger") / "rgb/weights.pt"
    copy.write_bytes(b"damaged")
    assert (load_bundle_path("m", "challenger") / "rgb/weights.pt").read_bytes() == bytes(range(256))


def test_a_lost_or_emptied_registry_is_noticed_and_filled_again(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics, empty_registry: Path
) -> None:
    found = register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    assert contains(found)
    assert not contains(replace(found, version="2"))
    assert not contains(replace(found, digest="0"))
    shutil.rmtree(next((registry / ".kineflow/mlflow/artifacts").rglob("bundle")))  # files gone, rows there
    assert not contains(found)
    assert register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage) == found
    assert contains(found)
    shutil.copyfile(empty_registry, registry / ".kineflow/mlflow/mlflow.db")  # everything gone
    assert not contains(found)
    assert register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage).version == "1"


def test_what_does_not_exist_is_named(registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics) -> None:
    with pytest.raises(ParamsError, match="no version 'champion' of the model 'm'"):
        load_bundle_path("m", "champion")
    register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    for absent in ("champion", "7"):
        with pytest.raises(ParamsError, match="no version"):
            load_bundle_path("m", absent)
    with pytest.raises(DataError, match="no release model"):
        bundle_digest(registry / "nowhere")


def test_a_registry_out_of_reach_is_one_sentence(
    registry: Path, bundle: Path, lineage: Lineage, metrics_of: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:hidden@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceError, match="out of reach") as caught:
        register_bundle(bundle, model_name="m", metrics=metrics_of(0.9), lineage=lineage)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "hidden" not in tracking.public_uri()


def test_nulls_are_no_scores(metrics_of: Metrics) -> None:
    values = metrics_of(0.9) | {"test": None}
    values["cv"]["rgb"]["video_log_loss"] = {"mean": None, "std": None, "folds": [None, None]}
    assert json.loads(json.dumps(flat_metrics(values))) == {
        "cv/rgb/video_top1_acc": 0.9,
        "cv/rgb/video_top1_acc.std": 0.0,
        "baselines/majority/video_top1_acc": 0.5,
        "baselines/majority/video_top1_acc.std": 0.0,
    }
