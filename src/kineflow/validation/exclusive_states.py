"""Labels that never hold together: where a subject shows two of them at once nevertheless."""

from collections.abc import Mapping, Sequence

import pandas as pd


def overlapping_states(
    events: pd.DataFrame, exclusive: Sequence[Sequence[str]], *, tolerance_sec: Mapping[str, float]
) -> dict[int, str]:
    """In words, which earlier state each state event overlaps that it excludes.

    Args:
        events: the events table; point events and whole-video events are not looked at.
        exclusive: sets of labels of which a subject of a video shows at most one at a time.
        tolerance_sec: by video, what two states may share, as annotation tools round.

    Returns:
        by position in `events`; an event that overlaps none is not there.
    """
    timed = events.reset_index(drop=True)
    timed = timed[timed["start_sec"].notna() & timed["stop_sec"].notna()]
    timed = timed.assign(subject=timed["subject"].fillna("")).sort_values(["start_sec", "stop_sec"], kind="stable")
    found: dict[int, str] = {}
    for labels in exclusive:
        of_set = timed[timed["label"].isin(labels)]
        for (video_id, _), states in of_set.groupby(["video_id", "subject"], sort=False):
            tolerance = tolerance_sec.get(str(video_id), 0.0)
            until: dict[str, tuple[float, float]] = {}  # the state of each label that lasts longest: start, stop
            columns = (states["label"], states["start_sec"], states["stop_sec"])
            for position, label, start, stop in zip(states.index, *columns, strict=True):
                others = [(other_stop, other) for other, (_, other_stop) in until.items() if other != label]
                latest, other = max(others, default=(start, ""))
                if min(latest, stop) - start > tolerance:
                    found.setdefault(position, f"{other} {until[other][0]:g} to {latest:g} s")
                if label not in until or stop > until[label][1]:
                    until[label] = (start, stop)
    return found


def frames_with_several(frame_labels: pd.DataFrame, exclusive: Sequence[Sequence[str]]) -> pd.Series:
    """In how many frames of each video two labels of one of the sets hold; float64, index video_id."""
    several = pd.Series(False, index=frame_labels.index)
    for labels in exclusive:
        present = [label for label in labels if label in frame_labels.columns]
        several |= frame_labels[present].eq(1).fillna(False).astype(bool).sum(axis=1) > 1
    return several.groupby(frame_labels["video_id"]).sum().astype("float64")
