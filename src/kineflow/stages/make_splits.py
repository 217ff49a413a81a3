"""From tables to clips and folds: what is learned from, who is trained on, who is tested on."""

from kineflow.data.assignments import append_assignments, read_assignments
from kineflow.data.clips import event_clips, extracted_frame_counts, trimmed_clips, window_clips
from kineflow.data.frame_labels import positive_frame_counts
from kineflow.data.splits import (
    balance_table,
    deal_folds,
    deal_test_groups,
    folds_table,
    group_counts,
    label_counts,
    official_test_clips,
)
from kineflow.errors import DataError
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.tables import CLIPS, EVENTS, FOLDS, FRAME_LABELS, VIDEOS, read_table, write_table

PARAMS: tuple[str, ...] = ("task", "seed", "data.name", "frames.fps", "clips", "splits")


def run(params: Params, report: StageReport) -> None:
    """Write the clips and folds tables, and the roles of new groups into data/assignments.csv.

    Raises:
        DataError: there is no clip, a video has several labels, or there are too few groups.
    """
    videos = read_table(paths.VIDEOS, VIDEOS)
    events = read_table(paths.EVENTS, EVENTS)
    frame_labels = read_table(paths.FRAME_LABELS, FRAME_LABELS)
    fps = params.frames.fps
    if params.clips.window_sec is not None:
        labelled = frame_labels["video_id"].unique()
        clips = window_clips(videos, labelled, fps=fps, window_sec=params.clips.window_sec)
    elif params.clips.from_ == "videos":
        clips = trimmed_clips(videos, events, fps=fps)
    else:
        clips = event_clips(videos, events, fps=fps)
    if clips.empty:
        raise DataError(
            f"{paths.TABLES}: no video has labels to make a clip of; check data.annotations and data.format"
        )
    if params.task == "clip":
        class_counts = label_counts(clips)
    else:
        class_counts = positive_frame_counts(
            clips,
            frame_labels,
            num_source_frames=dict(zip(videos["video_id"], videos["num_frames"], strict=True)),
            num_extracted_frames=extracted_frame_counts(videos, fps=fps),
        )

    counts = group_counts(clips, class_counts)
    new_roles: dict[str, str] = {}
    if params.splits.test == "groups":
        known = read_assignments(paths.ASSIGNMENTS, dataset=params.data.name)
        new_roles = deal_test_groups(counts, known, test_fraction=params.splits.test_fraction, seed=params.seed)
        roles = known | new_roles
        test_clips = set(clips.loc[clips["group"].map(roles) == "test", "clip_id"])
    elif params.splits.test == "official":
        test_clips = official_test_clips(clips, videos)
    else:
        test_clips = set()
    development = clips[~clips["clip_id"].isin(test_clips)]
    fold_of_group = deal_folds(
        group_counts(development, class_counts), num_folds=params.splits.num_folds, seed=params.seed
    )
    folds = folds_table(clips, test_clips=test_clips, fold_of_group=fold_of_group)

    append_assignments(paths.ASSIGNMENTS, dataset=params.data.name, roles=new_roles)
    write_table(paths.CLIPS, CLIPS, clips)
    write_table(paths.FOLDS, FOLDS, folds)
    report.items = len(clips)
    _tell(report, balance_table(folds, class_counts, clips).to_string(), new_roles, params)


def _tell(report: StageReport, balance: str, new_roles: dict[str, str], params: Params) -> None:
    what = "clips" if params.task == "clip" else "frames"
    report.note(f"{what} of each class that a fold validates on:\n{balance}")
    if new_roles:
        held_out = sorted(group for group, role in new_roles.items() if role == "test")
        report.note(
            f"{len(new_roles)} new groups in {paths.ASSIGNMENTS}, held out for test: {', '.join(held_out) or 'none'}; "
            "commit that file"
        )
