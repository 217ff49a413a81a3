"""Facts about the tables that `make_splits` makes: one row for each clip, each thing that must not cross roles, each
class in each role of each fold."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.clips import label_columns
from kineflow.data.frame_labels import behaviours, extracted_labels
from kineflow.data.splits import TEST_FOLD, label_counts


def clip_facts(
    task: str, clips: pd.DataFrame, folds: pd.DataFrame, expected_frames: Mapping[str, int], *, num_repeats: int = 1
) -> pd.DataFrame:
    """One row for each clip of either table: its frames against those of its video, and its roles.

    Args:
        task: `clip` or `frame`; a label is wanted on task clip only, and not where a clip may have several.
        clips: the clips table.
        folds: the folds table.
        expected_frames: extracted frames of each ok video, by the tables.
        num_repeats: of the folds; a clip is validated once in each.
    """
    num_frames = clips["video_id"].map(expected_frames).fillna(0).astype("int64")
    outside = np.maximum(-clips["start_frame"], clips["stop_frame"] - num_frames).clip(lower=0)
    has_columns = task == "frame" or bool(label_columns(clips))  # then a clip may have no label
    facts = pd.DataFrame(
        {
            "item": clips["clip_id"],
            "outside_frames": outside.astype("float64"),
            "num_frames": (clips["stop_frame"] - clips["start_frame"]).astype("float64"),
            "label": (clips["label"].notna() | has_columns).map({True: "there", False: "missing"}),
            "words": [
                f"frames {start} to {stop} of a video of {count} frames"
                for start, stop, count in zip(clips["start_frame"], clips["stop_frame"], num_frames, strict=True)
            ],
        }
    )
    problems = _role_problems(set(clips["clip_id"]), folds, num_repeats)
    facts = facts.merge(pd.DataFrame({"item": sorted(problems)}), on="item", how="outer")
    facts["role_problem"] = facts["item"].map(problems).astype("object")
    return facts.sort_values("item", kind="stable", ignore_index=True)


def _role_problems(clip_ids: set[str], folds: pd.DataFrame, num_repeats: int) -> dict[str, str]:
    """What is wrong with the roles of a clip: it is in test, or once in every fold and validated once a repeat."""
    num_folds = int(folds["fold"].max()) + 1 if len(folds) else 0
    roles: dict[str, list[tuple[int, str]]] = {clip_id: [] for clip_id in clip_ids}
    for clip_id, role, fold in folds[["clip_id", "role", "fold"]].itertuples(index=False):
        roles.setdefault(clip_id, []).append((fold, role))
    problems: dict[str, str] = {}
    for clip_id, of_clip in roles.items():
        in_folds = sorted(fold for fold, _ in of_clip)
        validated = sum(role == "val" for _, role in of_clip)
        if clip_id not in clip_ids:
            problems[clip_id] = "not in the clips table"
        elif of_clip == [(TEST_FOLD, "test")]:
            continue
        elif in_folds != list(range(num_folds)) or any(role == "test" for _, role in of_clip):
            found = f"in the folds {', '.join(map(str, in_folds))}" if in_folds else "in no fold"
            problems[clip_id] = f"{found} of {num_folds}"
        elif validated != num_repeats:
            problems[clip_id] = f"validated in {validated} folds"
    return problems


def crossing_facts(
    clips: pd.DataFrame, folds: pd.DataFrame, videos: pd.DataFrame, near_copies: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Tables `groups`, `videos_in_roles`, `contents` and `near_copies`: one row for each of them.

    `crossing` words in which roles of one fold it is, null where it is in one; `test_crossing` is there where it is
    both in test and in development. Near copies are sets of videos that are linked by pairs.
    """
    hashes = dict(zip(videos["video_id"], videos["sha256"], strict=True))
    rows = folds.merge(clips[["clip_id", "video_id", "group"]], on="clip_id")
    copies = pd.Series(hashes).groupby(hashes).groups
    names = {sha256: " = ".join(sorted(video_ids)) for sha256, video_ids in copies.items()}
    rows["content"] = rows["video_id"].map(hashes).map(names)
    rows["near_copies"] = rows["video_id"].map(_sets_of_near_copies(near_copies))
    return {
        "groups": _crossings(rows, "group").assign(item=lambda facts: "group " + facts["item"]),
        "videos_in_roles": _crossings(rows, "video_id"),
        "contents": _crossings(rows, "content"),
        "near_copies": _crossings(rows[rows["near_copies"].notna()], "near_copies"),
    }


def _sets_of_near_copies(near_copies: pd.DataFrame) -> dict[str, str]:
    """For each video that has a near copy: all that are linked to it by pairs, itself included, as one name."""
    sets: dict[str, set[str]] = {}
    for video_id, other in zip(near_copies["video_id"], near_copies["other_id"], strict=True):
        joined = sets.get(video_id, {video_id}) | sets.get(other, {other})
        sets |= dict.fromkeys(joined, joined)
    return {video_id: " ~ ".join(sorted(linked)) for video_id, linked in sets.items()}


def _crossings(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    distinct = rows[[column, "fold", "role"]].drop_duplicates()
    development = distinct[distinct["fold"] != TEST_FOLD]
    per_fold = development.groupby([column, "fold"]).size()
    crossing = {
        key: f"in train and val of fold {fold}" for key, fold in reversed(per_fold[per_fold > 1].index.tolist())
    }
    in_test = set(distinct.loc[distinct["role"] == "test", column])
    both = in_test & set(development[column])
    keys = sorted(set(distinct[column]))
    return pd.DataFrame(
        {
            "item": keys,
            "crossing": pd.Series([crossing.get(key) for key in keys], dtype="object"),
            "test_crossing": pd.Series(
                ["in test and in development" if key in both else None for key in keys], dtype="object"
            ),
        }
    )


def support_facts(class_counts: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """One row for each class in each role of each fold: how many clips (frames, on task frame) show it.

    The count is in the column of the role (`train`, `val`, `test`), the others are null.

    Args:
        class_counts: index clip_id, a column for each class.
        folds: the folds table.
    """
    rows = []
    for (fold, role), of_role in folds.groupby(["fold", "role"]):
        sums = class_counts.reindex(of_role["clip_id"], fill_value=0).sum()
        where = "test" if role == "test" else f"{role} of fold {fold}"
        rows += [(f"class {name} in {where}", role, float(count)) for name, count in sums.items()]
    facts = pd.DataFrame(rows, columns=["item", "role", "count"])
    facts["words"] = [f"shown {count:g} times" for count in facts["count"]]
    for role in ("train", "val", "test"):
        facts[role] = facts["count"].where(facts["role"] == role).astype("float64")
    return facts


def fold_size_facts(folds: pd.DataFrame) -> pd.DataFrame:
    """One row for each fold: its validation clips, and what share of the mean fold's they are."""
    numbers = sorted(folds.loc[folds["fold"] != TEST_FOLD, "fold"].unique())
    counts = folds[folds["role"] == "val"].groupby("fold").size().reindex(numbers, fill_value=0)
    mean = float(counts.mean()) if len(counts) else 0.0
    return pd.DataFrame(
        {
            "item": [f"fold {fold}" for fold in numbers],
            "share_of_mean": counts.to_numpy(dtype=np.float64) / max(mean, 1e-9),
            "words": [f"clips: {count}, and {mean:.3g} on average" for count in counts],
        }
    )


def class_size_facts(class_counts: pd.DataFrame) -> pd.DataFrame:
    """One row for each class: `num_clips` clips (on task frame: frames) show it."""
    sums = class_counts.sum()
    return pd.DataFrame(
        {"item": [f"class {name}" for name in sums.index], "num_clips": sums.to_numpy(dtype=np.float64)}
    )


def class_counts(
    task: str, clips: pd.DataFrame, frame_labels: pd.DataFrame, source_frames: Mapping[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """What each clip shows: its label, or on task frame its extracted frames of each behaviour.

    Returns:
        int64, index clip_id, a column for each class or behaviour.
    """
    if task == "clip":
        return label_counts(clips if label_columns(clips) else clips[clips["label"].notna()])
    names = behaviours(frame_labels)
    labels_by_video = dict(tuple(frame_labels.groupby("video_id", sort=False)))
    rows: dict[str, NDArray[np.int64]] = {}
    for video_id, of_video in clips.groupby("video_id"):
        if video_id not in labels_by_video or video_id not in source_frames:
            continue
        positive_NK = extracted_labels(labels_by_video[video_id], source_frames[video_id]) == 1
        for clip_id, start, stop in of_video[["clip_id", "start_frame", "stop_frame"]].itertuples(index=False):
            rows[clip_id] = positive_NK[start:stop].sum(axis=0)
    return pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype="int64")
