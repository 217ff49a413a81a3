"""The clips of the workspace, with who is trained on and who is tested on in each fold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from kineflow.data.clips import extracted_frame_counts
from kineflow.data.dataset import ClipItem
from kineflow.data.event_clips import Span, class_events
from kineflow.data.frame_labels import behaviours
from kineflow.data.items import clip_classes, clip_items, window_items
from kineflow.data.negatives import negative_starts
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.clip_rules import negative_rule, not_classes
from kineflow.stages.learned_labels import read_learned_labels
from kineflow.tables import CLIPS, EVENTS, FOLDS, VIDEOS, read_table
from kineflow.video.frame_store import FrameReader

RELEASE = -1


@dataclass(frozen=True)
class Dataset:
    """The clips of the data set with their roles.

    Args:
        classes: in the order of the models' outputs.
        items: every clip by clip_id.
        roles: clip ids by (fold, role), in the order of the clips table; fold -1 holds the role `test`.
        groups, sha256: of each video.
        redraw_starts: by clip_id of a negative, where training may draw it anew; validation and test never do.
        window_stride_sec: task frame: from one window to the next; None where they tile their video.
    """

    classes: tuple[str, ...]
    items: Mapping[str, ClipItem]
    roles: Mapping[tuple[int, str], list[str]]
    groups: Mapping[str, str]
    sha256: Mapping[str, str]
    redraw_starts: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    window_stride_sec: float | None = None

    @property
    def folds(self) -> list[int]:
        """The fold numbers, in order."""
        return sorted({fold for fold, role in self.roles if role == "val"})

    def clips(self, fold: int, role: str) -> list[ClipItem]:
        """The clips of a role in a fold, in a stable order."""
        return [self.items[clip_id] for clip_id in self.roles.get((fold, role), [])]

    def training_clips(self, items: list[ClipItem]) -> list[ClipItem]:
        """The same clips, with the places where negatives are drawn anew."""
        return [replace(item, redraw_starts=self.redraw_starts.get(item.clip_id, ())) for item in items]

    @property
    def judged(self) -> dict[str, str]:
        """The group of every video that a clip for validation or test is of."""
        ids = [clip_id for (_, role), of_role in self.roles.items() if role != "train" for clip_id in of_role]
        return {self.items[clip_id].video_id: self.groups[self.items[clip_id].video_id] for clip_id in ids}

    @property
    def development(self) -> list[ClipItem]:
        """Every clip that is not for test."""
        in_test = set(self.roles.get((RELEASE, "test"), []))
        in_folds = {clip_id for (fold, _), ids in self.roles.items() if fold != RELEASE for clip_id in ids}
        return [item for clip_id, item in self.items.items() if clip_id in in_folds - in_test]


def load_dataset(params: Params) -> Dataset:
    """Read the tables of the workspace."""
    clips = read_table(paths.CLIPS, CLIPS)
    folds = read_table(paths.FOLDS, FOLDS)
    videos = read_table(paths.VIDEOS, VIDEOS)
    if params.task == "clip":
        classes = clip_classes(clips)
        items = clip_items(clips, classes)
    else:
        labels = read_learned_labels(params, videos)
        classes = tuple(behaviours(labels))
        sources = {v: FrameReader(paths.FRAMES / f"{v}.zip").source_frames for v in clips["video_id"].unique()}
        items = window_items(clips, labels, sources)
    order = {clip_id: position for position, clip_id in enumerate(items)}
    roles: dict[tuple[int, str], list[str]] = {}
    for fold, role, clip_id in folds[["fold", "role", "clip_id"]].itertuples(index=False):
        roles.setdefault((int(fold), role), []).append(clip_id)
    roles = {key: sorted(ids, key=order.__getitem__) for key, ids in roles.items()}
    by_video = videos.set_index("video_id")
    return Dataset(
        classes,
        items,
        roles,
        by_video["group"].to_dict(),
        by_video["sha256"].to_dict(),
        redraw_starts=_redraw_starts(params, videos, clips),
        window_stride_sec=params.clips.stride_sec if params.task == "frame" else None,
    )


def _redraw_starts(params: Params, videos: pd.DataFrame, clips: pd.DataFrame) -> dict[str, tuple[Span, ...]]:
    """By clip_id of each negative: where in its video a training epoch may draw it anew; empty if none is redrawn."""
    negatives, fps = params.clips.negatives, params.frames.fps
    if negatives is None or not negatives.redraw:
        return {}
    events = read_table(paths.EVENTS, EVENTS)
    drawn = clips["origin"] == "negative"
    wanted = class_events(events, classes=params.clips.classes, not_classes=not_classes(params.clips))
    num_frames = extracted_frame_counts(videos, fps=fps)
    found: dict[str, tuple[Span, ...]] = {}
    for window, of_length in clips[drawn].groupby(clips["stop_frame"] - clips["start_frame"]):
        starts = negative_starts(
            events, wanted, clips[~drawn], num_frames, fps=fps, window=int(window), rule=negative_rule(negatives)
        )
        pairs = zip(of_length["clip_id"], of_length["video_id"], strict=True)
        found |= {clip_id: tuple(starts[video_id]) for clip_id, video_id in pairs}
    return found
