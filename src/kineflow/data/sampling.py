"""Which of a clip's images a view shows, by index.

A clip is [start, stop) in extracted frames, of which the store holds the first `available`: a video has one flow less
than frames.
"""

import numpy as np

from kineflow.data.views import View


def every_frame(available: int, start: int, stop: int) -> list[int]:
    """All of them; the last frame of a video has no flow of its own and takes the one before."""
    return [min(index, available - 1) for index in range(start, stop)]


def dense_frames(available: int, start: int, stop: int, view: View, *, num_frames: int, stride: int) -> list[int]:
    """Every `stride`-th frame, from a place that the view says; a short clip is looped.

    A test-time window is in the middle of the free room, several are spread over all of it. A training view is drawn
    from the `view.jitter` of the room that is in its middle.
    """
    start, stop = _inside(available, start, stop)
    length = stop - start
    free = max(0, length - num_frames * stride)
    position = view.start / (1.0 - view.length) if view.length < 1.0 else 0.5
    if view.jitter_seed is not None:
        position = 0.5 + view.jitter * (position - 0.5)
    first = round(free * position)
    return [start + (first + step * stride) % length for step in range(num_frames)]


def segment_frames(available: int, start: int, stop: int, view: View, *, num_segments: int) -> list[int]:
    """The frame in the middle of each segment, or any frame of it where the view says so."""
    start, stop = _inside(available, start, stop)
    borders = segment_borders(start, stop, num_segments, view)
    places = (borders[:-1] + borders[1:]) / 2
    if view.any_frame and view.jitter_seed is not None:
        places = np.random.default_rng([view.jitter_seed, 1]).uniform(borders[:-1], borders[1:])
    indices: list[int] = np.clip(np.floor(places).astype(np.int64), start, stop - 1).tolist()
    return indices


def segment_spans(available: int, start: int, stop: int, view: View, *, num_segments: int) -> list[range]:
    """All images of each segment; of a segment shorter than an image, one."""
    start, stop = _inside(available, start, stop)
    borders = segment_borders(start, stop, num_segments, view)
    firsts = np.clip(np.floor(borders[:-1] + 0.5).astype(np.int64), start, stop - 1)
    lasts = np.clip(np.floor(borders[1:] + 0.5).astype(np.int64), firsts + 1, stop)
    return [range(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def segment_borders(start: float, stop: float, num_segments: int, view: View) -> np.ndarray:
    """Borders (num_segments + 1, rising) of equal segments of the view's window in [start, stop).

    Inner and outer borders are shifted at random by up to `view.jitter` of a segment, and stay inside the clip.
    """
    length = (stop - start) * view.length
    first = start + (stop - start) * view.start
    borders = first + np.linspace(0.0, length, num_segments + 1)
    if view.jitter_seed is not None and view.jitter > 0:
        shift = np.random.default_rng(view.jitter_seed).uniform(-0.5, 0.5, len(borders)) * view.jitter
        borders = borders + shift * (length / num_segments)
    return np.clip(borders, start, stop)


def _inside(available: int, start: int, stop: int) -> tuple[int, int]:
    start = min(start, available - 1)
    return start, max(start + 1, min(stop, available))
