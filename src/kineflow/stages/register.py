"""Assemble the release model and put it into the registry as the challenger."""

import json
from pathlib import Path

from kineflow.params import STREAM_NAMES, Params
from kineflow.registry import lineage, tracking
from kineflow.registry.register import CHALLENGER, register_bundle
from kineflow.registry.registration_file import write_registration
from kineflow.registry.training_runs import write_training_runs
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.store import home
from kineflow.training.bundle import assemble_bundle

PARAMS = (
    "task",
    "release",
    "register",
    "distill.enabled",
    *(f"streams.{name}.enabled" for name in STREAM_NAMES),
)


def run(params: Params, report: StageReport) -> None:
    """Write registration.json: name, version, digest, run_id, alias, tracking_uri (without credentials)."""
    stream = params.release.stream
    metrics = json.loads(paths.METRICS.read_text())
    names: tuple[str, ...] = (stream,)
    weights = None
    if stream == "fusion":
        names = params.streams.enabled
        weights = {name: part["weight"] for name, part in metrics["fusion"]["streams"].items()}
    parts = [paths.MODELS / name / "release" for name in names]
    bundle = assemble_bundle(parts, home() / "release" / "bundle", stream_weights=weights)
    made_of = lineage.collect(
        Path(),
        release_stream=stream,
        training_groups=bundle.training_groups,
        training_videos=bundle.training_videos,
        clips=paths.CLIPS,
        folds=paths.FOLDS,
        sources=paths.SOURCES,
    )
    registration = register_bundle(
        bundle.root,
        model_name=params.register_.model_name,
        metrics=metrics,
        lineage=made_of,
        documents=(paths.REPORT_HTML, paths.MODEL_CARD),
        tags={key: text for name in names for key, text in _weights_tags(name).items()},
    )
    trained = (*params.streams.enabled, *(["student"] if params.distill.enabled else []))
    write_training_runs(registration, [paths.MODELS / name for name in trained])
    values = {
        "name": registration.name,
        "version": registration.version,
        "digest": registration.digest,
        "run_id": registration.run_id,
        "alias": CHALLENGER,
        "tracking_uri": tracking.public_uri(),
    }
    write_registration(paths.REGISTRATION, values)
    report.items = 1
    report.note(f"{registration.name} version {registration.version} ({registration.digest[:12]}) is the {CHALLENGER}")
    if made_of.code_dirty:
        report.note("the code differs from its commit; commit it, so that the lineage can be followed")


def _weights_tags(name: str) -> dict[str, str]:
    """What the models of `name` started from, and what became of it."""
    loaded = json.loads((paths.MODELS / name / "summary.json").read_text())["weights"]
    if loaded is None:
        return {}
    values = {
        "source": loaded["source"],
        "sha256": loaded["sha256"],
        "num_matched": loaded["num_matched"],
        "num_dropped": len(loaded["dropped"]),
        "num_new": len(loaded["new"]),
    }
    return {f"kineflow.weights.{name}.{key}": str(value) for key, value in values.items()}
