"""Histograms of optical flow on a grid: how much of a clip moves in which direction, where and when.

A frame's flow gives 4 rows x 6 columns x (8 orientations + 1 for no motion); a clip averages its flows over 6 stretches
of time. Sources: Laptev 2008 (HOF with a no-motion bin), Arandjelovic 2012 (root normalisation).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineflow.store import ResultStore, digest, file_sha256
from kineflow.video.flow_store import FlowReader

CODE_VERSION = 1  # rises with every change of what `flow_histograms` returns
NUM_TIMES, NUM_ROWS, NUM_COLUMNS, NUM_ORIENTATIONS = 6, 4, 6, 8
NUM_BINS = NUM_ORIENTATIONS + 1
STILL_PX = 0.05  # per frame interval: a pixel slower than this counts for the no-motion bin instead
PIXELS_AT_ONCE = 1_000_000  # bounds the memory of a long video: some 60 bytes each

Histograms = NDArray[np.float32]


def flow_histograms(flow_THW2: NDArray[np.float32]) -> Histograms:
    """Orientation histograms of each flow.

    Args:
        flow_THW2: px per frame interval, x then y.

    Returns:
        float32 (T, 4, 6, 9). Bins 0 to 7 hold the mean over the cell's pixels of the magnitude, shared linearly between
        the two nearest orientations (bin o is centred at o times 45 degrees, from x towards y); bin 8 holds
        `STILL_PX` times the fraction of pixels slower than that, which keeps it on the scale of the others.
    """
    num_flows, height, width, _ = flow_THW2.shape
    magnitude_P = np.hypot(flow_THW2[..., 0], flow_THW2[..., 1]).ravel()
    moving_M = np.flatnonzero(magnitude_P >= STILL_PX)  # few in most videos
    magnitude_M = magnitude_P[moving_M]
    x_M, y_M = flow_THW2.reshape(-1, 2)[moving_M].T
    position_M = np.arctan2(y_M, x_M) * (NUM_ORIENTATIONS / (2 * np.pi))
    lower_M = np.floor(position_M)
    share_M = position_M - lower_M
    lower_M = lower_M.astype(np.int64) % NUM_ORIENTATIONS

    cell_HW, pixels_RC = _cells(height, width)
    num_cells = NUM_ROWS * NUM_COLUMNS
    cell_M = moving_M // (height * width) * num_cells + cell_HW.ravel()[moving_M % (height * width)]
    size = num_flows * num_cells * NUM_ORIENTATIONS
    sums = np.bincount(cell_M * NUM_ORIENTATIONS + lower_M, magnitude_M * (1 - share_M), size)
    sums += np.bincount(cell_M * NUM_ORIENTATIONS + (lower_M + 1) % NUM_ORIENTATIONS, magnitude_M * share_M, size)
    histograms = np.empty((num_flows, NUM_ROWS, NUM_COLUMNS, NUM_BINS), dtype=np.float32)
    histograms[..., :-1] = sums.reshape(*histograms.shape[:3], NUM_ORIENTATIONS) / np.maximum(pixels_RC, 1)[:, :, None]
    moving_TRC = np.bincount(cell_M, minlength=num_flows * num_cells).reshape(histograms.shape[:3])
    histograms[..., -1] = STILL_PX * np.where(pixels_RC > 0, 1 - moving_TRC / np.maximum(pixels_RC, 1), 0)
    return histograms


def video_histograms(path: Path, store: ResultStore) -> Histograms:
    """`flow_histograms` of a whole flow store, computed once for each content.

    Args:
        path: a flow store.
        store: where results are kept between runs.
    """
    key = digest(kind="hof", code=CODE_VERSION, flow=file_sha256(path), still_px=STILL_PX)
    if key not in store:
        with store.writing(key) as partial, partial.open("wb") as file:
            np.save(file, _compute(path))
    histograms: Histograms = np.load(store.path(key), mmap_mode="r", allow_pickle=False)
    return histograms


def clip_descriptor(histograms_TRCB: Histograms) -> NDArray[np.float32]:
    """One vector for a clip of T >= 0 flows: 6 x 4 x 6 x 9 values, root and L2 normalised.

    Fewer than 6 flows are repeated so that each stretch of time has one; no flow at all gives zeros.
    """
    num_flows = len(histograms_TRCB)
    if num_flows == 0:
        return np.zeros(NUM_TIMES * NUM_ROWS * NUM_COLUMNS * NUM_BINS, dtype=np.float32)
    edges = np.linspace(0, num_flows, NUM_TIMES + 1)
    starts = np.minimum(np.floor(edges[:-1] + 1e-9).astype(np.int64), num_flows - 1)
    stops = np.maximum(np.floor(edges[1:] + 1e-9).astype(np.int64), starts + 1)
    means = [histograms_TRCB[start:stop].mean(axis=0) for start, stop in zip(starts, stops, strict=True)]
    return _root_normalised(np.stack(means).reshape(1, -1))[0]


def frame_descriptors(
    histograms_TRCB: Histograms, frames_N: NDArray[np.int64], *, window_flows: int
) -> NDArray[np.float32]:
    """One vector for each of some frames of a video: the flows in a window centred on it, in 6 stretches of time.

    Args:
        frames_N: extracted frames; flow i lies between frames i and i + 1.
        window_flows: length of the window; at the ends of the video the part that is missing counts as no flow.

    Returns:
        float32 (N, 6 x 4 x 6 x 9), root and L2 normalised.
    """
    offsets = np.round(np.linspace(-window_flows / 2, window_flows / 2, NUM_TIMES + 1)).astype(np.int64)
    edges_NE = np.clip(frames_N[:, None] + offsets[None, :], 0, len(histograms_TRCB))
    start, stop = int(edges_NE.min(initial=len(histograms_TRCB))), int(edges_NE.max(initial=0))
    used_TD = np.asarray(histograms_TRCB[start : max(start, stop)]).reshape(-1, NUM_ROWS * NUM_COLUMNS * NUM_BINS)
    cumulative_TD = np.concatenate([np.zeros((1, used_TD.shape[1])), np.cumsum(used_TD, axis=0, dtype=np.float64)])
    sums_NED = cumulative_TD[edges_NE[:, 1:] - start] - cumulative_TD[edges_NE[:, :-1] - start]
    return _root_normalised(np.maximum(sums_NED, 0.0).reshape(len(frames_N), -1))


def mirrored(descriptors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the descriptors of the same clips seen in a mirror would be: columns reversed, left and right swapped."""
    grid = descriptors_ND.reshape(-1, NUM_TIMES, NUM_ROWS, NUM_COLUMNS, NUM_BINS)[:, :, :, ::-1]
    swapped = [(NUM_ORIENTATIONS // 2 - o) % NUM_ORIENTATIONS for o in range(NUM_ORIENTATIONS)]
    return np.ascontiguousarray(grid[..., [*swapped, NUM_ORIENTATIONS]]).reshape(descriptors_ND.shape)


def _compute(path: Path) -> Histograms:
    reader = FlowReader(path)
    step = max(1, PIXELS_AT_ONCE // (reader.height * reader.width))
    chunks = [
        flow_histograms(reader.read(np.arange(start, min(start + step, reader.num_flows))))
        for start in range(0, reader.num_flows, step)
    ]
    empty = np.zeros((0, NUM_ROWS, NUM_COLUMNS, NUM_BINS), dtype=np.float32)
    return np.concatenate([empty, *chunks])


def _cells(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cell (row-major) of each pixel, and the number of pixels of each cell."""
    row_H = np.arange(height) * NUM_ROWS // height
    column_W = np.arange(width) * NUM_COLUMNS // width
    pixels = np.outer(np.bincount(row_H, minlength=NUM_ROWS), np.bincount(column_W, minlength=NUM_COLUMNS))
    return row_H[:, None] * NUM_COLUMNS + column_W[None, :], pixels


def _root_normalised(vectors_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    rooted = np.sqrt(vectors_ND)
    norms = np.linalg.norm(rooted, axis=1, keepdims=True)
    return np.asarray(rooted / np.where(norms > 0, norms, 1.0), dtype=np.float32)
