"""Task frame: windows slide over a video, and a frame has the mean probability of the windows that hold it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kineflow.data.clips import slide
from kineflow.data.probabilities import Labels

Span = tuple[int, int]  # first frame, one past the last
OVERLAP = 4  # windows that hold a frame, away from the ends of its video
MIN_KNOWN = 0.5  # of the frames of a window, for it to be learned from

Floats = NDArray[np.float64]


def window_spans(num_frames: int, window: int) -> list[Span]:
    """The windows of a video, the last of which ends with it; they do not depend on what is asked of it."""
    return slide(num_frames, window, max(1, window // OVERLAP))


def window_targets(labels_TK: NDArray[np.floating], spans: Sequence[Span], labels: Labels) -> Floats:
    """What each window shows, (W, K): 1, 0, or nan where fewer than half of its frames are labelled.

    An independent class is shown if at least half of the labelled frames show it; of exclusive ones the most frequent.
    """
    targets_WK = np.full((len(spans), labels_TK.shape[1]), np.nan)
    for row, (start, stop) in enumerate(spans):
        of_window = labels_TK[start:stop]
        known_TK = np.isfinite(of_window)
        enough_K = known_TK.mean(axis=0) >= MIN_KNOWN
        shown_K = np.where(known_TK, of_window, 0).sum(axis=0)
        if labels == "independent":
            targets_WK[row, enough_K] = (shown_K >= known_TK.sum(axis=0) / 2)[enough_K]
        elif enough_K.all():
            targets_WK[row] = np.eye(len(shown_K))[int(shown_K.argmax())]
    return targets_WK


def some_windows(targets_WK: Floats, max_windows: int) -> NDArray[np.int64]:
    """At most so many of the labelled windows: half shared by what shows each class, the rest spread evenly."""
    labelled = np.flatnonzero(np.isfinite(targets_WK).any(axis=1))
    if len(labelled) <= max_windows:
        return labelled
    num_classes = targets_WK.shape[1]
    share = max_windows // 2 // num_classes
    parts = [_spread(labelled[targets_WK[labelled, k] == 1], share) for k in range(num_classes)]
    return np.unique(np.concatenate([*parts, _spread(labelled, max_windows // 2)]))


def frame_means(probs_WK: Floats, spans: Sequence[Span], start: int, stop: int) -> Floats:
    """The mean over the windows that hold each frame of [start, stop), (stop - start, K); each is held by one."""
    sums_TK, counts_T = np.zeros((stop - start, probs_WK.shape[1])), np.zeros(stop - start)
    for probs_K, (first, last) in zip(probs_WK, spans, strict=True):
        held = slice(max(0, first - start), max(0, last - start))
        sums_TK[held] += probs_K
        counts_T[held] += 1
    return sums_TK / counts_T[:, None]


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` of the rows at even distances, or all of them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
