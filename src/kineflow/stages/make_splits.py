"""From tables to clips and folds: what is learned from, who is trained on, who is tested on."""

import pandas as pd

from kineflow.data.assignments import append_assignments, read_assignments
from kineflow.data.clips import event_clips, extracted_frame_counts, joined, negative_clips, trimmed_clips, window_clips
from kineflow.data.event_clips import class_events
from kineflow.data.fold_file import read_fold_file
from kineflow.data.frame_labels import positive_frame_counts
from kineflow.data.held_out import deal_test_groups, named_test_groups, official_test_clips
from kineflow.data.multi_label import event_label_sets, trimmed_label_sets
from kineflow.data.splits import (
    balance_table,
    deal_repeats,
    folds_table,
    group_counts,
    label_counts,
    leave_one_out,
    repeated,
)
from kineflow.data.support import supported_clips
from kineflow.errors import DataError
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.clip_rules import event_rule, negative_rule, not_classes
from kineflow.stages.learned_labels import learned_and_left_out
from kineflow.stages.stage import StageReport
from kineflow.tables import CLIPS, EVENTS, FOLDS, VIDEOS, read_table, write_table

PARAMS: tuple[str, ...] = (
    "task",
    "seed",
    "data.name",
    "frames.fps",
    "clips",
    "splits",
    "validation.min_clips_per_class",
)


def run(params: Params, report: StageReport) -> None:
    """Write the clips and folds tables, and the roles of new groups into data/assignments.csv.

    Raises:
        DataError: there is no clip, a video has several labels, there are too few groups, a row of data/folds.csv is
            wrong, or a group named for test was assigned to development before.
    """
    videos = read_table(paths.VIDEOS, VIDEOS)
    left_out: dict[str, str] = {}
    if params.task == "frame":
        frame_labels, left_out = learned_and_left_out(params, videos)
        clips = _windows(params, videos, frame_labels)
        class_counts = positive_frame_counts(
            clips,
            frame_labels,
            num_source_frames=dict(zip(videos["video_id"], videos["num_frames"], strict=True)),
            num_extracted_frames=extracted_frame_counts(videos, fps=params.frames.fps),
        )
    else:
        clips = _labelled_clips(params, report, videos, read_table(paths.EVENTS, EVENTS))
        if params.clips.without_support == "leave_out":
            clips, left_out = supported_clips(clips, min_clips=params.validation.min_clips_per_class)
        class_counts = label_counts(clips)
    if clips.empty or class_counts.columns.empty:
        raise DataError(
            f"{paths.TABLES}: no video has labels to make a clip of; check data.annotations, data.format and clips"
            + _words(left_out, before="; without support: ")
        )
    folds, new_roles = _deal(params, clips, class_counts, videos)
    append_assignments(paths.ASSIGNMENTS, dataset=params.data.name, roles=new_roles)
    write_table(paths.CLIPS, CLIPS, clips)
    write_table(paths.FOLDS, FOLDS, folds)
    report.items = len(clips)
    if left_out:
        report.note(_words(left_out, before="warning: left out, for they have no support: "))
    _tell(report, balance_table(folds, class_counts, clips).to_string(), new_roles, params)


def _windows(params: Params, videos: pd.DataFrame, frame_labels: pd.DataFrame) -> pd.DataFrame:
    assert params.clips.window_sec is not None  # kineflow.params holds that for task frame
    return window_clips(
        videos,
        frame_labels["video_id"].unique(),
        fps=params.frames.fps,
        window_sec=params.clips.window_sec,
        stride_sec=params.clips.stride_sec,
    )


def _labelled_clips(params: Params, report: StageReport, videos: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    wanted = class_events(events, classes=params.clips.classes, not_classes=not_classes(params.clips))
    several, fps = params.labels == "independent", params.frames.fps
    if params.clips.from_ == "videos":
        return (trimmed_label_sets if several else trimmed_clips)(videos, wanted, fps=fps)
    positives = (event_label_sets if several else event_clips)(videos, wanted, fps=fps, rule=event_rule(params.clips))
    if params.clips.negatives is None:
        return positives
    assert params.clips.window_sec is not None  # kineflow.params holds that with negatives
    rule = negative_rule(params.clips.negatives)
    if rule.label is not None and rule.label in set(positives["label"]):
        raise DataError(f"clips.negatives.label {rule.label!r} is a label of events too; choose another")
    negatives = negative_clips(
        videos,
        events,
        wanted,
        positives,
        fps=fps,
        window_sec=params.clips.window_sec,
        rule=rule,
        seed=params.seed,
    )
    share = f" for {len(positives)} clips of events (clips.negatives.ratio: {rule.ratio:g})"
    report.note(f"{len(negatives)} negatives found room{share}")
    return joined(positives, negatives)


def _deal(
    params: Params, clips: pd.DataFrame, class_counts: pd.DataFrame, videos: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The folds table, and the roles of groups that had none."""
    splits = params.splits
    known = read_assignments(paths.ASSIGNMENTS, dataset=params.data.name)
    new_roles: dict[str, str] = {}
    fold_of_group: dict[str, int] | None = None
    if splits.test == "official":
        test_clips = official_test_clips(clips, videos)
    else:
        test_groups: set[str] = set()
        if splits.test == "groups":
            counts = group_counts(clips, class_counts)
            new_roles = deal_test_groups(counts, known, test_fraction=splits.test_fraction, seed=params.seed)
            test_groups = {group for group, role in (known | new_roles).items() if role == "test"}
        elif splits.test == "file":
            fold_of_group, test_groups = read_fold_file(paths.FOLD_FILE, groups=set(clips["group"]))
        elif splits.test == "named":
            test_groups = named_test_groups(splits.test_names, clips)
        if splits.test in ("file", "named") and test_groups:
            new_roles = _stated_roles(set(clips["group"]), test_groups, known)
        test_clips = set(clips.loc[clips["group"].isin(test_groups), "clip_id"])
    _refuse_to_train_on_test(clips[~clips["clip_id"].isin(test_clips)], known)
    development = group_counts(clips[~clips["clip_id"].isin(test_clips)], class_counts)
    if fold_of_group is not None:
        dealt = [fold_of_group]
    elif splits.kind == "leave_one_group_out":
        dealt = [leave_one_out(development)]
    else:
        dealt = deal_repeats(development, num_folds=splits.num_folds, num_repeats=splits.num_repeats, seed=params.seed)
    tables = [folds_table(clips, test_clips=test_clips, fold_of_group=fold_of) for fold_of in dealt]
    return repeated(tables), new_roles


def _stated_roles(groups: set[str], test_groups: set[str], known: dict[str, str]) -> dict[str, str]:
    """Roles of groups that have none, where a person states the test groups.

    Raises:
        DataError: a group was assigned otherwise before: models may have trained on it, or been tested on it.
    """
    stated = {group: "test" if group in test_groups else "development" for group in sorted(groups)}
    for group, role in stated.items():
        if known.get(group, role) != role:
            raise DataError(
                f"group {group!r} is stated as {role}, but is {known[group]} in {paths.ASSIGNMENTS}, and a role never "
                f"changes; state it as {known[group]}, or give the data set another data.name"
            )
    return {group: role for group, role in stated.items() if group not in known}


def _refuse_to_train_on_test(development: pd.DataFrame, known: dict[str, str]) -> None:
    """Raise DataError if a clip that is to train or validate is of a group that was held out for test before."""
    held_out = sorted({group for group in development["group"] if known.get(group) == "test"})
    if held_out:
        raise DataError(
            f"group {held_out[0]!r} would be trained on, but is test in {paths.ASSIGNMENTS}, and a role never changes: "
            f"models were judged by it; hold it out (splits.test), or give the data set another data.name"
        )


def _words(left_out: dict[str, str], *, before: str) -> str:
    return before + ", ".join(f"{name} ({why})" for name, why in left_out.items()) if left_out else ""


def _tell(report: StageReport, balance: str, new_roles: dict[str, str], params: Params) -> None:
    what = "clips" if params.task == "clip" else "frames"
    report.note(f"{what} of each class that a fold validates on:\n{balance}")
    if new_roles:
        held_out = sorted(group for group, role in new_roles.items() if role == "test")
        report.note(
            f"{len(new_roles)} new groups in {paths.ASSIGNMENTS}, held out for test: {', '.join(held_out) or 'none'}; "
            "commit that file"
        )
