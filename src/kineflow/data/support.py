"""Which classes can be learned and judged: those that two groups show, one to train on and one to validate."""

import pandas as pd

from kineflow.data.frame_labels import behaviours

MIN_GROUPS = 2


def supported_clips(clips: pd.DataFrame, *, min_clips: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """The clips of task clip whose class has `min_clips` clips in two groups, and why each other class is left out."""
    left_out: dict[str, str] = {}
    for label, of_label in clips.groupby("label"):
        num_groups = of_label["group"].nunique()
        if len(of_label) < min_clips or num_groups < MIN_GROUPS:
            left_out[str(label)] = f"{len(of_label)} clips in {num_groups} groups"
    return clips[~clips["label"].isin(list(left_out))].reset_index(drop=True), left_out


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
