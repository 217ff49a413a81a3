"""Which classes can be learned and judged: those that two groups show, one to train on and one to validate."""

import pandas as pd

from kineflow.data.clips import label_columns
from kineflow.data.frame_labels import behaviours, exclusive_labels, unlabel_frames_without_class
from kineflow.data.probabilities import Labels

MIN_GROUPS = 2


def supported_clips(clips: pd.DataFrame, *, min_clips: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """The clips of task clip whose class has `min_clips` clips in two groups, and why each other class is left out.

    Of a clip with several labels those that have support stay; if none has, the clip goes too.
    """
    columns = label_columns(clips)
    groups_of = {name: clips.loc[clips[name] == 1, "group"] for name in columns}
    groups_of |= {str(label): groups for label, groups in clips.groupby("label")["group"]}
    left_out = {
        label: f"{len(groups)} clips in {groups.nunique()} groups"
        for label, groups in groups_of.items()
        if len(groups) < min_clips or groups.nunique() < MIN_GROUPS
    }
    if not columns:
        return clips[~clips["label"].isin(list(left_out))].reset_index(drop=True), left_out
    kept = clips.drop(columns=[name for name in columns if name in left_out])
    had_label = (clips[columns] == 1).any(axis=1)
    has_label = (kept[label_columns(kept)] == 1).any(axis=1)
    return kept[has_label | ~had_label].reset_index(drop=True), left_out


def learned_labels(
    frame_labels: pd.DataFrame, videos: pd.DataFrame, *, labels: Labels, only_supported: bool
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The frame_labels table that is learned and scored, and why classes are left out of it.

    Args:
        labels: exclusive gives every labelled frame exactly one class, `background` among them.
        only_supported: leave out what fewer than two groups show.

    Raises:
        DataError: two behaviours hold in one frame and should not.
    """
    table = exclusive_labels(frame_labels) if labels == "exclusive" else frame_labels
    if not only_supported:
        return table, {}
    table, left_out = supported_labels(table, videos)
    return (unlabel_frames_without_class(table) if labels == "exclusive" else table), left_out


def supported_labels(frame_labels: pd.DataFrame, videos: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The frame_labels table without the behaviours that fewer than two groups show, and why each is left out.

    Videos that are not ok do not count.
    """
    ok = videos[videos["status"] == "ok"]
    groups = dict(zip(ok["video_id"], ok["group"], strict=True))
    left_out: dict[str, str] = {}
    for name in behaviours(frame_labels):
        positive = frame_labels[name].eq(1).fillna(False).astype(bool)
        shown_in = {groups[video] for video in frame_labels.loc[positive, "video_id"].unique() if video in groups}
        if len(shown_in) < MIN_GROUPS:
            left_out[name] = f"{int(positive.sum())} frames in {len(shown_in)} groups"
    return frame_labels.drop(columns=list(left_out)), left_out
