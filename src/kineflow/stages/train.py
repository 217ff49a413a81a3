"""Train one stream: its fold models and its release model."""

from kineflow.params import Params, StreamName
from kineflow.stages import paths
from kineflow.stages.folds.dataset import load_dataset
from kineflow.stages.folds.fisher import train_fisher
from kineflow.stages.folds.jobs import classification_of, stream_jobs
from kineflow.stages.folds.networks import train_network
from kineflow.stages.stage import StageReport

PARAMS = ("task", "seed", "frames", "flow", "pose", "clips", "train", "release.form", "streams.{stream}")


def run(params: Params, report: StageReport, *, stream: StreamName) -> None:
    """Write `models/<stream>/`, or the `disabled` out where params disable the stream."""
    if not getattr(params.streams, stream).enabled:
        paths.write_disabled(paths.MODELS / stream, f"streams.{stream}.enabled is false")
        report.note(f"disabled: streams.{stream}.enabled is false")
        return
    dataset = load_dataset(params)
    if stream == "fv":
        train_fisher(params, dataset, report)
        return
    jobs = stream_jobs(params, dataset, stream, report)
    train_network(params, dataset, jobs, name=stream, objective_of=classification_of(params), report=report)
