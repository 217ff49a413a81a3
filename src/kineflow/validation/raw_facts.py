"""Facts about the tables that `ingest` makes: a row for each video, event, labelled video, label, class, data set."""

from collections.abc import Sequence, Set

import numpy as np
import pandas as pd

from kineflow.annotations.timing import seconds_outside
from kineflow.data.clips import extracted_frame_counts
from kineflow.data.frame_labels import behaviours
from kineflow.validation.exclusive_states import frames_with_several, overlapping_states


def raw_facts(
    task: str,
    videos: pd.DataFrame,
    events: pd.DataFrame,
    frame_labels: pd.DataFrame,
    near_copies: pd.DataFrame,
    *,
    fps: float,
    class_events: pd.DataFrame | None = None,
    point_events: bool = False,
    subjects: Sequence[str] | None = None,
    exclusive: Sequence[Sequence[str]] = (),
) -> dict[str, pd.DataFrame]:
    """All tables of facts of the gate `raw`, by name; rows in the order of `item`.

    Args:
        task: `clip` or `frame`.
        videos: the videos table.
        events: the events table.
        frame_labels: the frame_labels table; empty on task clip.
        near_copies: the near_copies table.
        fps: of the frames that will be extracted.
        class_events: those of the events whose label is a class; None: all.
        point_events: whether clips are made of them too.
        subjects: the subjects that events may name; None: any.
        exclusive: sets of labels of which a subject shows at most one at a time.
    """
    of_classes = events if class_events is None else class_events
    labelling = of_classes if point_events else of_classes[_whole_or_state(of_classes)]
    ok_ids = set(videos.loc[videos["status"] == "ok", "video_id"])
    if task == "clip":
        classes = class_facts(labelling[labelling["video_id"].isin(ok_ids)], videos)
    else:
        classes = behaviour_facts(frame_labels[frame_labels["video_id"].isin(ok_ids)], videos)
    return {
        "videos": video_facts(videos, labelling if task == "clip" else frame_labels, near_copies, fps=fps),
        "events": event_facts(events, videos, subjects=subjects, exclusive=exclusive),
        "labelled_videos": labelled_video_facts(frame_labels, videos, exclusive=exclusive),
        "labels": label_facts(of_classes, labelling[labelling["video_id"].isin(ok_ids)], ok_ids),
        "classes": classes,
        "data_set": data_set_facts(videos, classes),
    }


def video_facts(videos: pd.DataFrame, labels: pd.DataFrame, near_copies: pd.DataFrame, *, fps: float) -> pd.DataFrame:
    """One row for each video; all but `status` and `reason` is null where it is quarantined.

    `num_extracted_frames` is null too where it has no labels, and so is not learned from.
    """
    videos = videos.sort_values("video_id", ignore_index=True)
    ok = videos["status"] == "ok"
    duration = videos["duration_sec"].astype("float64")
    header_rate = videos["fps_num"].astype("float64") / videos["fps_den"].astype("float64")
    num_corrupt = videos["num_corrupt_frames"].astype("float64")
    decoded_rate = videos["num_frames"].astype("float64") / duration.where(duration > 0)
    num_labels = videos["video_id"].map(labels["video_id"].value_counts()).fillna(0)
    num_extracted = videos["video_id"].map(extracted_frame_counts(videos, fps=fps)).astype("float64")
    sides = videos[["width", "height"]].astype("float64")
    across, within = _copies(videos[ok])
    return pd.DataFrame(
        {
            "item": videos["video_id"],
            "status": videos["status"],
            "reason": videos["reason"],
            "num_frames": videos["num_frames"].astype("float64").where(ok),
            "num_corrupt_frames": num_corrupt.where(ok),
            "damage": [
                f"{corrupt:g} of {count:g} frames" if corrupt > 0 else None
                for corrupt, count in zip(num_corrupt, videos["num_frames"], strict=True)
            ],
            "frames_per_sec": decoded_rate.fillna(header_rate).fillna(0.0).where(ok),
            "smaller_side_px": sides.min(axis=1).where(ok),
            "larger_side_px": sides.max(axis=1).where(ok),
            "num_labels": num_labels.astype("float64").where(ok),
            "num_extracted_frames": num_extracted.where(ok & (num_labels > 0)),
            "copy_in_other_group": videos["video_id"].map(across).astype("object"),
            "copy_in_same_group": videos["video_id"].map(within).astype("object"),
            "near_copy": videos["video_id"].map(_near_copies(near_copies, videos)).astype("object"),
        }
    )


def _copies(videos: pd.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """For each video whose content another one has: which, by whether that is in another group or in its own."""
    across: dict[str, str] = {}
    within: dict[str, str] = {}
    repeated = videos[videos.duplicated("sha256", keep=False)]
    for _, copies in repeated.groupby("sha256"):
        pairs = list(zip(copies["video_id"], copies["group"], strict=True))
        for video_id, group in pairs:
            others = [(other, its_group) for other, its_group in pairs if other != video_id]
            for other, its_group in others:
                where, text = (within, other) if its_group == group else (across, f"{other} in group {its_group}")
                where.setdefault(video_id, f"the same bytes as {text}")
    return across, within


def _near_copies(near_copies: pd.DataFrame, videos: pd.DataFrame) -> dict[str, str]:
    """For each first video of a pair: the other one, with its group and where in it the first one begins."""
    groups = dict(zip(videos["video_id"], videos["group"], strict=True))
    words: dict[str, str] = {}
    for video_id, other, shift_sec, similarity in near_copies.sort_values(["video_id", "other_id"]).itertuples(False):
        where = f"from {shift_sec:g} s on" if shift_sec >= 0 else f"{-shift_sec:g} s later"
        words.setdefault(video_id, f"like {other} in group {groups[other]} {where}, similarity {similarity:g}")
    return words


def _whole_or_state(events: pd.DataFrame) -> pd.Series:
    """Which events can label a clip: all but point events."""
    return events["start_sec"].isna() | events["stop_sec"].notna()


def event_facts(
    events: pd.DataFrame,
    videos: pd.DataFrame,
    *,
    subjects: Sequence[str] | None = None,
    exclusive: Sequence[Sequence[str]] = (),
) -> pd.DataFrame:
    """One row for each event, with how far it reaches out of its video and how long it is.

    `outside_sec` is by the rule of `ingest`; `overlap` allows for one frame. `outside_sec`, `length_sec` are null for
    whole-video events and for events of quarantined or unknown videos, `length_sec` for point events. `subject` is null
    for events without one, and for all where any subject is allowed.
    """
    known = videos.set_index("video_id")
    ids = events["video_id"]
    duration = ids.map(known["duration_sec"]).astype("float64")
    one_frame = duration / ids.map(known["num_frames"]).astype("float64").clip(lower=1)
    start, stop = events["start_sec"].astype("float64"), events["stop_sec"].astype("float64")
    usable = ids.map(known["status"]).eq("ok") & ~(start.isna() & stop.isna())
    outside = pd.Series(
        seconds_outside(
            start.fillna(np.inf).to_numpy(),
            stop.fillna(start).to_numpy(),
            duration_sec=duration.to_numpy(),
            frame_sec=one_frame.to_numpy(),
        ),
        index=events.index,
    )
    named = events["subject"].fillna("") != ""
    subject = events["subject"].isin(list(subjects or ())).map({True: "known", False: "unknown"})
    frame_sec = (known["duration_sec"] / known["num_frames"].clip(lower=1)).astype("float64").fillna(0.0)
    overlaps = overlapping_states(events, exclusive, tolerance_sec=frame_sec.to_dict())
    span = [f"{a:g} to {b:g} s" if b == b else f"at {a:g} s" for a, b in zip(start, stop, strict=True)]
    label = events["label"].astype("object")
    facts = pd.DataFrame(
        {
            "item": [f"event {source} of {video}" for video, source in zip(ids, events["source"], strict=True)],
            "video": ["known" if video in known.index else "unknown" for video in ids],
            "outside_sec": outside.where(usable),
            "length_sec": (stop - start.fillna(np.inf)).where(usable & stop.notna()),
            "words": [
                f"{name} {when} in a video of {length:g} s"
                for name, when, length in zip(label, span, duration, strict=True)
            ],
            "subject": subject.where(named & (subjects is not None)).astype("object"),
            "subject_words": [f"{name} of subject {who}" for name, who in zip(label, events["subject"], strict=True)],
            "overlap": pd.Series(
                [
                    f"{name} {when} with {overlaps[i]}" if i in overlaps else None
                    for i, (name, when) in enumerate(zip(label, span, strict=True))
                ],
                dtype="object",
                index=events.index,
            ),
        }
    )
    return facts.sort_values("item", kind="stable", ignore_index=True)


def labelled_video_facts(
    frame_labels: pd.DataFrame, videos: pd.DataFrame, *, exclusive: Sequence[Sequence[str]] = ()
) -> pd.DataFrame:
    """One row for each video with frame labels; the frames are null where it is quarantined or unknown."""
    by_video = frame_labels.groupby("video_id")["frame"]
    facts = pd.DataFrame({"first": by_video.min(), "last": by_video.max(), "rows": by_video.size()})
    facts["distinct"] = by_video.nunique()
    known = videos.set_index("video_id")
    ids = facts.index.to_series()
    ok = ids.map(known["status"]).eq("ok")
    num_frames = ids.map(known["num_frames"]).astype("float64")
    outside = np.maximum(-facts["first"], facts["last"] - num_frames + 1).clip(lower=0)
    return pd.DataFrame(
        {
            "item": ids,
            "video": ["known" if video in known.index else "unknown" for video in ids],
            "frames_outside": outside.astype("float64").where(ok),
            "frames_with_two_states": ids.map(frames_with_several(frame_labels, exclusive)),
            "frames_labelled_twice": (facts["rows"] - facts["distinct"]).astype("float64"),
            "words": [
                f"labels of frames {first} to {last} in a video of {count:g} frames"
                for first, last, count in zip(facts["first"], facts["last"], num_frames, strict=True)
            ],
        }
    ).reset_index(drop=True)


def label_facts(events: pd.DataFrame, labelling: pd.DataFrame, ok_ids: Set[str]) -> pd.DataFrame:
    """One row for each label of `events` whose label is a class; `without_clip` says why none of them makes a clip.

    Args:
        events: those whose label is a class.
        labelling: those of them that clips are made of.
        ok_ids: videos that can be decoded.
    """
    learnt = set(labelling["label"])
    rows = []
    for label, of_label in events.groupby("label"):
        points = int(of_label["video_id"].isin(ok_ids).sum())
        words = f"{points} point events" if points else f"{len(of_label)} events of videos that cannot be decoded"
        rows.append((f"label {label}", None if label in learnt else words))
    return pd.DataFrame(rows, columns=["item", "without_clip"], dtype="object")


def class_facts(events: pd.DataFrame, videos: pd.DataFrame) -> pd.DataFrame:
    """Task clip: one row for each label of the events that clips are made of, with its distinct events and groups."""
    groups = dict(zip(videos["video_id"], videos["group"], strict=True))
    distinct = events.drop_duplicates(["video_id", "label", "start_sec", "stop_sec"])
    rows = [
        (f"class {label}", len(of_label), len({groups[video_id] for video_id in of_label["video_id"]}))
        for label, of_label in distinct.groupby("label")
    ]
    return pd.DataFrame(rows, columns=["item", "num_events", "num_groups"])


def behaviour_facts(frame_labels: pd.DataFrame, videos: pd.DataFrame) -> pd.DataFrame:
    """Task frame: one row for each behaviour, with the frames that show it, those that do not, and its groups."""
    groups = dict(zip(videos["video_id"], videos["group"], strict=True))
    rows = []
    for name in behaviours(frame_labels):
        positive = frame_labels[name].eq(1).fillna(False).astype(bool)
        negative = frame_labels[name].eq(0).fillna(False).astype(bool)
        shown_in = {groups[video_id] for video_id in frame_labels.loc[positive, "video_id"].unique()}
        rows.append((f"behaviour {name}", int(positive.sum()), int(negative.sum()), len(shown_in)))
    return pd.DataFrame(rows, columns=["item", "num_positive_frames", "num_negative_frames", "num_groups"])


def data_set_facts(videos: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """One row: the data set, with its share of quarantined videos and its number of classes."""
    quarantined = videos[videos["status"] != "ok"].sort_values("video_id")
    examples = [
        f"{video_id}: {reason}" for video_id, reason in zip(quarantined["video_id"], quarantined["reason"], strict=True)
    ]
    words = f"{len(quarantined)} of {len(videos)} videos are quarantined"
    return pd.DataFrame(
        {
            "item": ["the data set"],
            "num_ok_videos": [len(videos) - len(quarantined)],
            "quarantined_fraction": [len(quarantined) / max(1, len(videos))],
            "quarantine": [f"{words}, the first {examples[0]}" if examples else words],
            "num_classes": [len(classes)],
        }
    )
