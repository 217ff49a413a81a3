"""The local descriptors of a clip: each 2 x 2 cells wide and high and 3 stretches of time long, at every place.

They overlap by half in every direction. A tracked descriptor moves on from flow to flow with the median flow at its
middle (Wang 2013, without the homography); any other stays where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kineflow.descriptors.cells import NUM_DRIFT, NUM_FIELDS, TILES, Cells, Scale, VideoCells
from kineflow.descriptors.orientations import NUM_DIRECTIONS, mirrored_directions

Channel = Literal["hof", "mbh", "hog"]
FIELDS: Mapping[Channel, list[int]] = {"hof": [0], "mbh": [1, 2], "hog": [3]}  # of cells.py
MIRRORED = [mirrored_directions(negates=axis) for axis in ("x", "y", "x", "x")]  # of each field, in a mirror
NUM_TIMES, NUM_ROWS, NUM_COLUMNS = 3, 2, 2

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LocalDescriptors:
    """N descriptors of one clip.

    Args:
        shares_N: float32 (N, 3 times, 2 rows, 2 columns, 4 fields, 8 directions).
        place_N3: float32 (N, 3), time, y and x of the middle, as fractions of the clip from -0.5 to 0.5.
    """

    shares_N: Floats
    place_N3: Floats

    def __len__(self) -> int:
        return len(self.shares_N)

    def mirrored(self) -> "LocalDescriptors":
        """Those of the same clip seen in a mirror."""
        swapped = self.shares_N[:, :, :, ::-1]
        fields = [swapped[..., field, MIRRORED[field]] for field in range(NUM_FIELDS)]
        return LocalDescriptors(np.stack(fields, axis=4), self.place_N3 * np.array([1, 1, -1], np.float32))

    def chosen(self, rows: NDArray[np.int64]) -> "LocalDescriptors":
        """Some of them."""
        return LocalDescriptors(self.shares_N[rows], self.place_N3[rows])

    def channel(self, name: Channel) -> Floats:
        """Of one channel, float32 (N, 96 for each field): roots of fractions of the whole (Arandjelovic 2012)."""
        values_ND = self.shares_N[..., FIELDS[name], :].reshape(len(self), -1)
        sums_N1 = values_ND.sum(axis=1, keepdims=True)
        return np.sqrt(np.divide(values_ND, sums_N1, out=np.zeros_like(values_ND), where=sums_N1 > 0))


def joined(parts: Sequence[LocalDescriptors]) -> LocalDescriptors:
    """Descriptors of several clips as one."""
    return LocalDescriptors(
        np.concatenate([part.shares_N for part in parts]), np.concatenate([part.place_N3 for part in parts])
    )


def clip_descriptors(cells: VideoCells, start: int, stop: int) -> LocalDescriptors:
    """The descriptors of a clip that move (see `_moving`), at all scales.

    Args:
        start, stop: frames of the clip; it has the flows between them, one less. Where these are too few for one
            descriptor, its stretches of time are shorter; a clip of one frame has no descriptors.
    """
    first, last = start, min(stop - 1, cells.num_flows)
    found = [_at_scale(of_scale[first:last], scale, cells.rule.track) for of_scale, scale in _scales(cells)]
    return joined([_moving(part) for part in found])


def time_borders(num_flows: int, cell_flows: int) -> list[tuple[int, int]]:
    """(first, one past the last) flow of each stretch of time of a clip of at least one flow.

    There are as many as come nearest to `cell_flows` flows each, but never fewer than a descriptor has; then some
    share a flow.
    """
    num_stretches = max(NUM_TIMES, round(num_flows / cell_flows))
    starts = [min(i * num_flows // num_stretches, num_flows - 1) for i in range(num_stretches)]
    stops = [max((i + 1) * num_flows // num_stretches, starts[i] + 1) for i in range(num_stretches)]
    return list(zip(starts, stops, strict=True))


def _scales(cells: VideoCells) -> Iterator[tuple[Cells, Scale]]:
    yield from zip(cells.scales, cells.rule.scales, strict=True)


def _at_scale(cells_TRCV: Cells, scale: Scale, track: bool) -> LocalDescriptors:
    if not len(cells_TRCV):
        empty = (0, NUM_TIMES, NUM_ROWS, NUM_COLUMNS, NUM_FIELDS, NUM_DIRECTIONS)
        return LocalDescriptors(np.zeros(empty, np.float32), np.zeros((0, 3), np.float32))
    borders = time_borders(len(cells_TRCV), scale.cell_flows)
    return _tracked(np.asarray(cells_TRCV, np.float32), borders) if track else _dense(cells_TRCV, borders)


def _dense(cells_TRCV: Cells, borders: list[tuple[int, int]]) -> LocalDescriptors:
    """At every place of the grid, in every three stretches of time that follow each other."""
    stretches = np.stack([cells_TRCV[first:last].mean(axis=0, dtype=np.float32) for first, last in borders])
    num_times, num_rows, num_columns, _ = stretches.shape
    starts = num_times - NUM_TIMES + 1, num_rows - NUM_ROWS + 1, num_columns - NUM_COLUMNS + 1
    parts = np.empty((*starts, NUM_TIMES, NUM_ROWS, NUM_COLUMNS, stretches.shape[3]), np.float32)
    for t, r, c in np.ndindex(NUM_TIMES, NUM_ROWS, NUM_COLUMNS):
        parts[:, :, :, t, r, c] = stretches[t : t + starts[0], r : r + starts[1], c : c + starts[2]]
    time_T = _middles(borders)
    y_R = np.arange(1, num_rows, dtype=np.float32) / num_rows - 0.5
    x_C = np.arange(1, num_columns, dtype=np.float32) / num_columns - 0.5
    place_TRC3 = np.stack(np.meshgrid(time_T, y_R, x_C, indexing="ij"), axis=-1)
    return _as_descriptors(parts, place_TRC3)


def _tracked(tiles_TRCV: Floats, borders: list[tuple[int, int]]) -> LocalDescriptors:
    """As `_dense`, but each descriptor moves on with the flow at its middle, and stays inside the frame."""
    drift_TRC2 = tiles_TRCV[..., -NUM_DRIFT:]
    cells_TRCV = _of_tiles(tiles_TRCV[..., :-NUM_DRIFT])
    _, num_rows, num_columns, _ = tiles_TRCV.shape
    y_P, x_P = (axis.ravel() for axis in np.meshgrid(*_middles_of_tiles(num_rows, num_columns), indexing="ij"))
    num_starts = len(borders) - NUM_TIMES + 1
    parts = np.zeros((num_starts, len(y_P), NUM_TIMES, NUM_ROWS, NUM_COLUMNS, NUM_FIELDS * NUM_DIRECTIONS), np.float32)
    place = np.empty((num_starts, len(y_P), 3), np.float32)
    for s, time in enumerate(_middles(borders)):
        y_now, x_now, path = y_P.copy(), x_P.copy(), []
        for t, (first, last) in enumerate(borders[s : s + NUM_TIMES]):
            for item in range(first, last):
                path.append((y_now, x_now))
                for r, c in np.ndindex(NUM_ROWS, NUM_COLUMNS):  # the tile at which a cell begins
                    corner = y_now - TILES * (1 - r), x_now - TILES * (1 - c)
                    parts[s, :, t, r, c] += _between(cells_TRCV[item], *corner) / (last - first)
                step_P2 = _between(drift_TRC2[item], y_now - 0.5, x_now - 0.5)  # a value belongs to a tile's middle
                y_now = np.clip(y_now + step_P2[:, 1], TILES, num_rows - TILES)
                x_now = np.clip(x_now + step_P2[:, 0], TILES, num_columns - TILES)
        y_mean, x_mean = np.mean(path, axis=0)
        place[s] = np.stack([np.full(len(y_P), time), y_mean / num_rows - 0.5, x_mean / num_columns - 0.5], axis=1)
    return _as_descriptors(parts, place)


def _of_tiles(tiles_TRCV: Floats) -> Floats:
    """Cells that begin at every tile: means of 2 x 2 tiles."""
    half = np.float32(0.5)
    by_row = (tiles_TRCV[:, :-1] + tiles_TRCV[:, 1:]) * half
    return (by_row[:, :, :-1] + by_row[:, :, 1:]) * half


def _middles_of_tiles(num_rows: int, num_columns: int) -> tuple[Floats, Floats]:
    """Where descriptors begin, in tiles: as many as without tracking, evenly spread."""
    return tuple(  # type: ignore[return-value]
        np.linspace(TILES, num_tiles - TILES, num_tiles // TILES - 1, dtype=np.float32)
        for num_tiles in (num_rows, num_columns)
    )


def _between(values_RCV: Floats, y_P: Floats, x_P: Floats) -> Floats:
    """Values at places between those of the grid, bilinear; beyond the border those at the border."""
    num_rows, num_columns, _ = values_RCV.shape
    y_P, x_P = np.clip(y_P, 0, num_rows - 1), np.clip(x_P, 0, num_columns - 1)
    y0, x0 = np.minimum(y_P.astype(np.int64), num_rows - 2), np.minimum(x_P.astype(np.int64), num_columns - 2)
    dy, dx = (y_P - y0).astype(np.float32)[:, None], (x_P - x0).astype(np.float32)[:, None]
    above = values_RCV[y0, x0] * (1 - dx) + values_RCV[y0, x0 + 1] * dx
    below = values_RCV[y0 + 1, x0] * (1 - dx) + values_RCV[y0 + 1, x0 + 1] * dx
    between: Floats = above * (1 - dy) + below * dy
    return between


def _middles(borders: list[tuple[int, int]]) -> Floats:
    """Time of the middle of each descriptor, as a fraction of the clip from -0.5 to 0.5."""
    num_flows = borders[-1][1]
    middles = [(borders[i][0] + borders[i + NUM_TIMES - 1][1]) / 2 for i in range(len(borders) - NUM_TIMES + 1)]
    return (np.array(middles) / num_flows - 0.5).astype(np.float32)


def _as_descriptors(parts: Floats, place: Floats) -> LocalDescriptors:
    shape = (-1, NUM_TIMES, NUM_ROWS, NUM_COLUMNS, NUM_FIELDS, NUM_DIRECTIONS)
    return LocalDescriptors(parts.reshape(shape), place.reshape(-1, 3).astype(np.float32))


def _moving(descriptors: LocalDescriptors) -> LocalDescriptors:
    """Those that move at least as much as the mean of them: of the others normalisation would make loud noise.

    The clip is its own measure, so that neither frame rate nor size matter.
    """
    if not len(descriptors):
        return descriptors
    motion_N = descriptors.shares_N[..., 0, :].sum(axis=(1, 2, 3, 4))
    return descriptors.chosen(np.flatnonzero((motion_N >= motion_N.mean()) & (motion_N > 0)))
