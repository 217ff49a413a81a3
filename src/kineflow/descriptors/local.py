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
    """As `_dense`, but each descriptor moves on with the flow at its middle, and stays inside the frame.

    S descriptors begin, one with each stretch of time, at each of P places.
    """
    num_flows, num_rows, num_columns, _ = tiles_TRCV.shape
    cells_TRCV, drift_TRC2 = _of_tiles(tiles_TRCV[..., :-NUM_DRIFT]), tiles_TRCV[..., -NUM_DRIFT:]
    first_P2 = _first_places(num_rows, num_columns)
    most_2 = np.array([num_rows, num_columns], np.float32) - TILES
    corners_Q2 = TILES * (np.array(list(np.ndindex(NUM_ROWS, NUM_COLUMNS)), np.float32) - 1)  # tiles where cells begin
    num_starts = len(borders) - NUM_TIMES + 1
    place_SP2 = np.repeat(first_P2[None], num_starts, axis=0)
    sums_SP2 = np.zeros_like(place_SP2)
    parts = np.zeros((num_starts, len(first_P2), NUM_TIMES, len(corners_Q2), NUM_FIELDS * NUM_DIRECTIONS), np.float32)
    spans = [(borders[s][0], borders[s + NUM_TIMES - 1][1]) for s in range(num_starts)]
    for item in range(num_flows):
        begun = [s for s, (first, last) in enumerate(spans) if first <= item < last]
        seen_AP2 = place_SP2[begun]
        cells_APQV = _between(cells_TRCV[item], seen_AP2[:, :, None] + corners_Q2)
        for cells_PQV, s in zip(cells_APQV, begun, strict=True):
            for t, (first, last) in enumerate(borders[s : s + NUM_TIMES]):
                if first <= item < last:
                    parts[s, :, t] += cells_PQV / (last - first)
        sums_SP2[begun] += seen_AP2
        step_AP2 = _between(drift_TRC2[item], seen_AP2 - 0.5)[..., ::-1]  # a value belongs to the middle of its tile
        place_SP2[begun] = np.clip(seen_AP2 + step_AP2, TILES, most_2)
    mean_SP2 = sums_SP2 / np.array([last - first for first, last in spans], np.float32)[:, None, None]
    time_SP1 = np.broadcast_to(_middles(borders)[:, None, None], (*mean_SP2.shape[:2], 1))
    return _as_descriptors(parts, np.concatenate([time_SP1, mean_SP2 / (most_2 + TILES) - 0.5], axis=2))


def _of_tiles(tiles_TRCV: Floats) -> Floats:
    """Cells that begin at every tile: means of 2 x 2 tiles."""
    half = np.float32(0.5)
    by_row = (tiles_TRCV[:, :-1] + tiles_TRCV[:, 1:]) * half
    return (by_row[:, :, :-1] + by_row[:, :, 1:]) * half


def _first_places(num_rows: int, num_columns: int) -> Floats:
    """Where tracked descriptors begin, (P, 2), y then x in tiles: as many as without tracking, evenly spread."""
    y_R, x_C = (np.linspace(TILES, size - TILES, size // TILES - 1) for size in (num_rows, num_columns))
    return np.stack(np.meshgrid(y_R, x_C, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def _between(values_RCV: Floats, place: Floats) -> Floats:
    """Values at places (..., 2), y then x, between those of a grid: bilinear, beyond its border those at the border."""
    most = np.array(values_RCV.shape[:2]) - 1
    inside = np.clip(place, 0, most.astype(np.float32))
    corner = np.minimum(inside.astype(np.int64), most - 1)
    share = (inside - corner).astype(np.float32)[..., None]
    (y, x), (dy, dx) = np.moveaxis(corner, -1, 0), np.moveaxis(share, -2, 0)
    above = values_RCV[y, x] * (1 - dx) + values_RCV[y, x + 1] * dx
    below = values_RCV[y + 1, x] * (1 - dx) + values_RCV[y + 1, x + 1] * dx
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
