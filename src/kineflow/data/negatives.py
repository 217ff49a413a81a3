"""Negatives of long videos: windows that show no class, drawn where the rule allows them.

A window may start wherever it lies inside the state events that the rule names (anywhere, if it names none) and
keeps its distance to every event of a class.
"""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.event_clips import Span, nearest_frame

Starts = Mapping[str, Sequence[Span]]  # by video: (first, last) of the frames where a negative may start


@dataclass(frozen=True)
class NegativeRule:
    """Where negatives may be and how many.

    Args:
        label: the class that they are given; None where clips may have several labels, and negatives have none.
        ratio: negatives for each positive clip.
        within: labels of state events; a negative lies inside one of them. Empty: anywhere.
        min_distance_sec: of a negative to every event of a class and to every positive clip.
    """

    label: str | None
    ratio: float
    within: tuple[str, ...]
    min_distance_sec: float


def negative_starts(
    events: pd.DataFrame,
    positive_events: pd.DataFrame,
    positive_clips: pd.DataFrame,
    num_frames: Mapping[str, int],
    *,
    fps: float,
    window: int,
    rule: NegativeRule,
) -> dict[str, list[Span]]:
    """Where a negative of `window` frames may start in each video that has room for one.

    Args:
        events: the events table; holds the state events of `rule.within`.
        positive_events: those of it whose label is a class; also those that no clip was made of.
        positive_clips: video_id, start_frame, stop_frame.
        num_frames: extracted frames of each ok video. Of those without any event nobody knows what they show, and
            no negative is drawn there.
    """
    annotated = set(events["video_id"])
    allowed = _by_video(events[events["label"].isin(rule.within) & events["stop_sec"].notna()], fps)
    positive = _by_video(positive_events, fps)
    for video_id, start, stop in positive_clips[["video_id", "start_frame", "stop_frame"]].itertuples(index=False):
        positive.setdefault(video_id, []).append((start, stop))
    distance = nearest_frame(rule.min_distance_sec, fps)
    starts: dict[str, list[Span]] = {}
    for video_id, count in sorted(num_frames.items()):
        if video_id not in annotated:
            continue
        free_N = np.full(count, not rule.within)
        for start, stop in allowed.get(video_id, []):
            free_N[max(0, start) : max(0, stop)] = True
        for start, stop in positive.get(video_id, []):
            free_N[max(0, start - distance) : max(0, stop + distance)] = False
        spans = [(start, stop - window) for start, stop in _runs(free_N) if stop - start >= window]
        if spans:
            starts[video_id] = spans
    return starts


def draw_negatives(starts: Starts, *, number: int, window: int, seed: int) -> list[tuple[str, int]]:
    """Video and first frame of up to `number` windows that do not overlap, uniform over all starts; sorted.

    Each start has a priority by seed, video and frame; the first that fit are taken. So the order of videos does
    not matter, and a new video replaces few of the windows of the others.
    """
    taken: dict[str, list[int]] = {video_id: [] for video_id in sorted(starts)}
    waiting = [_first_free(starts[video_id], taken[video_id], video_id, window, seed) for video_id in taken]
    heap = [first for first in waiting if first is not None]
    heapq.heapify(heap)
    chosen = list[tuple[str, int]]()
    while heap and len(chosen) < number:
        _, video_id, start = heap[0]
        chosen.append((video_id, start))
        taken[video_id].append(start)
        following = _first_free(starts[video_id], taken[video_id], video_id, window, seed)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, following)
    return sorted(chosen)


def _first_free(
    spans: Sequence[Span], taken: Sequence[int], video_id: str, window: int, seed: int
) -> tuple[float, str, int] | None:
    """Priority, video and frame of the first start that overlaps none of `taken`; None where there is none.

    The priorities are drawn anew each time, so that those of one video are in memory and not those of all.
    """
    named = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big")
    drawn_N = np.random.default_rng([seed, named]).random(spans[-1][1] + 1)
    priority_N = np.full(len(drawn_N), np.inf)
    for first, last in spans:
        priority_N[first : last + 1] = drawn_N[first : last + 1]
    for start in taken:
        priority_N[max(0, start - window + 1) : start + window] = np.inf
    best = int(priority_N.argmin())
    return None if np.isinf(priority_N[best]) else (float(priority_N[best]), video_id, best)


def redrawn_start(starts: Sequence[Span], *, seed: int, epoch: int, index: int) -> int:
    """The start that epoch `epoch` gives clip `index`, uniform over `starts`."""
    sizes = np.array([last - first + 1 for first, last in starts])
    ends = np.cumsum(sizes)
    at = int(np.random.default_rng([seed, epoch, index, 1]).integers(ends[-1]))
    span = int(np.searchsorted(ends, at, side="right"))
    return int(starts[span][1] - (ends[span] - 1 - at))


def _by_video(events: pd.DataFrame, fps: float) -> dict[str, list[Span]]:
    """The frames of each event; of a point event its one frame, of a whole-video event all."""
    spans: dict[str, list[Span]] = {}
    for video_id, start_sec, stop_sec in events[["video_id", "start_sec", "stop_sec"]].itertuples(index=False):
        if pd.isna(start_sec):
            span = (0, np.iinfo(np.int64).max // 2)
        else:
            start = nearest_frame(start_sec, fps)
            span = (start, start + 1 if pd.isna(stop_sec) else nearest_frame(stop_sec, fps))
        spans.setdefault(video_id, []).append(span)
    return spans


def _runs(free_N: NDArray[np.bool_]) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free_N, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
