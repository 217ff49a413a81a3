"""Train an RGB student to imitate a teacher of the same fold: the network on flow, or Fisher vectors."""

from collections.abc import Callable

from kineflow.data.readers import StreamStore
from kineflow.distillation.mars import MarsConfig
from kineflow.distillation.taught import TaughtConfig
from kineflow.errors import DataError
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.folds.dataset import RELEASE, load_dataset
from kineflow.stages.folds.jobs import plan
from kineflow.stages.folds.networks import train_network
from kineflow.stages.stage import StageReport

PARAMS = ("task", "seed", "frames", "flow", "clips", "train", "release.form", "streams.rgb", "distill")


def run(params: Params, report: StageReport) -> None:
    """Write `models/student/`, or the `disabled` out."""
    if not params.distill.enabled:
        paths.write_disabled(paths.MODELS / "student", "distill.enabled is false")
        report.note("disabled: distill.enabled is false")
        return
    dataset = load_dataset(params)
    objective_of = _imitate_flow(params) if params.distill.teacher == "flow" else _imitate_fisher(params)
    jobs = plan(
        params,
        dataset,
        "rgb",
        params.streams.rgb,
        name="student",
        epochs=params.distill.epochs,
        objective_of=objective_of,
        report=report,
    )
    train_network(params, dataset, jobs, name="student", objective_of=objective_of, report=report)


def _imitate_flow(params: Params) -> Callable[[int], MarsConfig]:
    flow_store = StreamStore.of("flow", paths.FLOW)

    def objective_of(fold: int) -> MarsConfig:
        teacher = "release" if fold == RELEASE else f"folds/{fold}"
        return MarsConfig(
            teacher=(paths.MODELS / "flow" / teacher).resolve(),
            store=flow_store,
            feature_weight=params.distill.feature_weight,
            label_smoothing=params.train.label_smoothing,
            class_weights=params.train.class_weights,
            focal_gamma=params.train.focal_gamma,
        )

    return objective_of


def _imitate_fisher(params: Params) -> Callable[[int], TaughtConfig]:
    teacher = (paths.MODELS / "fv" / "teacher.parquet").resolve()
    if not teacher.is_file():
        raise DataError(f"{teacher} is not there: fv trained on one group only; use more groups, or teacher: flow")
    config = TaughtConfig(
        teacher=teacher,
        prob_weight=params.distill.prob_weight,
        label_smoothing=params.train.label_smoothing,
        class_weights=params.train.class_weights,
        focal_gamma=params.train.focal_gamma,
    )
    return lambda fold: config
