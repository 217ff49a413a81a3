"""The gate between the data set and training: stores against tables, clips against videos, folds against leaks."""

from kineflow.data.clips import extracted_frame_counts
from kineflow.errors import DataError
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.learned_labels import read_learned_labels
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, digest, home
from kineflow.tables import CLIPS, FOLDS, NEAR_COPIES, VIDEOS, read_table
from kineflow.training.code_digest import code_digest
from kineflow.validation.catalogue import rule_names
from kineflow.validation.dataset_rules import dataset_rules
from kineflow.validation.gate import open_gate, run_gate
from kineflow.validation.rules import with_severities
from kineflow.validation.split_facts import (
    class_counts,
    class_size_facts,
    clip_facts,
    crossing_facts,
    fold_size_facts,
    support_facts,
)
from kineflow.validation.store_facts import store_facts

PARAMS: tuple[str, ...] = (
    "task",
    "frames.fps",
    "clips",
    "splits",
    "validation",
    "streams",
    "evaluate.baselines",
)


def run(params: Params, report: StageReport) -> None:
    """Write reports/gates/dataset.json if frames, flow, pose, clips and folds are fit to train on.

    Raises:
        GateError: a rule of severity `stop` is broken.
        DataError: the flow or the pose store is disabled, but something needs it.
        ParamsError: `validation.severity` names an unknown rule, or a stream an unknown model.
    """
    _check_models(params)
    with_flow = not paths.is_disabled(paths.FLOW)
    if not with_flow and params.needs_flow:
        raise DataError(f"{paths.FLOW} is disabled, but a stream or the baseline hof needs it; run compute_flow again")
    with_pose = params.streams.pose.enabled
    if with_pose and paths.is_disabled(paths.POSE):
        raise DataError(f"{paths.POSE} is disabled, but streams.pose needs it; run compute_pose again")
    rules = dataset_rules(
        task=params.task,
        min_frames=params.clips.min_frames,
        min_clips_per_class=params.validation.min_clips_per_class,
        official=params.splits.kind == "official",
        with_flow=with_flow,
        with_pose=with_pose,
    )
    rules = with_severities(rules, params.validation.severity, known_names=rule_names())
    videos = read_table(paths.VIDEOS, VIDEOS)
    clips = read_table(paths.CLIPS, CLIPS)
    folds = read_table(paths.FOLDS, FOLDS)
    frame_labels = read_learned_labels(params, videos)
    expected = extracted_frame_counts(videos, fps=params.frames.fps)
    stores, source_frames = store_facts(
        expected,
        paths.FRAMES,
        paths.FLOW if with_flow else None,
        paths.POSE if with_pose else None,
        seen_root=home() / "store" / "seen",
    )
    counts = class_counts(params.task, clips, frame_labels, source_frames)
    facts = {
        "stores": stores,
        "clips": clip_facts(params.task, clips, folds, expected, num_repeats=params.splits.num_repeats),
        **crossing_facts(clips, folds, videos, read_table(paths.NEAR_COPIES, NEAR_COPIES)),
        "class_sizes": class_size_facts(counts),
        "support": support_facts(counts, folds),
        "fold_sizes": fold_size_facts(folds),
    }
    report.items = len(stores)
    result = run_gate("dataset", rules, facts, docs_dir=home() / "data_docs")
    for line in result.summary():
        report.note(line)
    open_gate(result, paths.GATE_DATASET)


def _check_models(params: Params) -> None:
    """Refuse models that cannot be built, before anything is trained; PyTorch is imported only for new ones."""
    configs = [params.streams[name] for name in params.streams.networks]
    wanted = [(config.model, config.options, config.short_clips) for config in configs]
    key = digest(kind="models", code=code_digest("kineflow.models"), task=params.task, models=wanted)
    known = ResultStore(home() / "store" / "seen")
    if key in known:
        return
    from kineflow.stages.network_checks import check_network

    for name in params.streams.networks:
        check_network(params.streams[name], task=params.task, key=f"streams.{name}")
    with known.writing(key) as target:
        target.write_text("fit\n")
