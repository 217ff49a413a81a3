"""The motion of a video on a grid of cells, frame by frame: what all descriptors of its clips are put together from.

Of every flow four fields of vectors are sorted by direction: the flow itself (HOF), the gradients of its x and of its y
(together MBH: what moves otherwise than its surroundings, so that a moving camera vanishes), and the gradient of the
gray frame it starts from (HOG). A cell holds the mean over its pixels.

Sources: Laptev 2008 (HOF, HOG), Dalal 2006 (MBH), Wang 2013 (all of them, dense). A clip needs no cell outside of it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kineflow.descriptors.orientations import NUM_DIRECTIONS, gradient, soft_orientations
from kineflow.errors import DataError
from kineflow.store import ResultStore, digest
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader

CODE_VERSION = 1  # rises with every change of what `write_cells` writes; guarded by a golden test
NUM_FIELDS = 4  # flow, gradient of its x, gradient of its y, gradient of the gray frame
TILES = 2  # a tracked cell is this many tiles wide and high, so that it can follow a point in steps of a tile
NUM_DRIFT = 2  # tracked: x and y of the median flow round each tile, after the directions
MEDIAN_PX = 5

Floats = NDArray[np.float32]
Cells = NDArray[np.float16]


@dataclass(frozen=True)
class Scale:
    """One size of cells.

    Args:
        cell_px: height and width, in pixels of the described frame.
        cell_flows: flows that a descriptor averages in each of its three stretches of time.
    """

    cell_px: int
    cell_flows: int


@dataclass(frozen=True)
class CellRule:
    """How the cells of a video are made.

    Args:
        short_side_px: frames and flow are averaged down to it, and keep their shape; smaller ones stay as they are.
        scales: sizes of cells.
        track: whether descriptors follow the motion.
    """

    short_side_px: int
    scales: tuple[Scale, ...]
    track: bool

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CellRule":
        """The inverse of `dataclasses.asdict`."""
        return cls(values["short_side_px"], tuple(Scale(**scale) for scale in values["scales"]), values["track"])


@dataclass(frozen=True)
class VideoCells:
    """The cells of one video.

    Args:
        scales: for each scale float16 (T, rows, columns, 32): flow by row by column by field and direction. Tracked:
            of tiles, and 34 values, the last two the median flow in tiles per flow, x then y.
    """

    rule: CellRule
    scales: tuple[Cells, ...]

    @property
    def num_flows(self) -> int:
        """Of the whole video."""
        return len(self.scales[0])


def cells_key(frames_key: str, flow_key: str, rule: CellRule) -> str:
    """The digest of everything that the cells of a video depend on."""
    return digest(kind="cells", code=CODE_VERSION, frames=frames_key, flow=flow_key, rule=asdict(rule))


def read_cells(folder: Path, rule: CellRule) -> VideoCells:
    """The cells in a folder that `write_cells` wrote, mapped, not read."""
    files = [folder / f"scale_{index}.npy" for index in range(len(rule.scales))]
    return VideoCells(rule, tuple(np.load(file, mmap_mode="r", allow_pickle=False) for file in files))


def video_cells(frames: Path, flow: Path, key: str, rule: CellRule, store: ResultStore) -> VideoCells:
    """The cells of a video, out of the store or computed and put there.

    Args:
        frames, flow: its stores.
        key: of `cells_key`.
    """
    if key not in store:
        with store.writing(key) as folder, FrameReader(frames) as frame_reader, FlowReader(flow) as flow_reader:
            write_cells(frame_reader, flow_reader, rule, folder)
    return read_cells(store.path(key), rule)


def write_cells(frames: FrameReader, flow: FlowReader, rule: CellRule, folder: Path) -> None:
    """Compute the cells of a whole video into `folder`, one file for each scale, in the memory of one frame.

    Numerical libraries get one thread, so that the result does not depend on the number of cores.

    Raises:
        DataError: the video has one frame, and so no flow.
    """
    if flow.num_flows == 0:
        raise DataError(f"{flow.path}: a video of one frame has no motion to describe; leave it out")
    cv2.setNumThreads(1)
    folder.mkdir(parents=True)
    height, width = described_size(flow.height, flow.width, rule.short_side_px)
    grids = [grid_shape(height, width, scale, track=rule.track) for scale in rule.scales]
    num_values = NUM_FIELDS * NUM_DIRECTIONS + (NUM_DRIFT if rule.track else 0)
    files = [
        np.lib.format.open_memmap(
            folder / f"scale_{index}.npy", mode="w+", dtype=np.float16, shape=(flow.num_flows, *grid, num_values)
        )
        for index, grid in enumerate(grids)
    ]
    with threadpool_limits(1):
        for item, (flow_HW2, gray_HW) in enumerate(_described(frames, flow, height, width)):
            shares_HWV = field_shares(flow_HW2, gray_HW)
            for file, grid in zip(files, grids, strict=True):
                file[item, :, :, : shares_HWV.shape[2]] = area_means(shares_HWV, grid)
                if rule.track:
                    file[item, :, :, -NUM_DRIFT:] = _drift(flow_HW2, grid)
    for file in files:
        file.flush()


def described_size(height: int, width: int, short_side_px: int) -> tuple[int, int]:
    """Height and width of frames of `height` x `width` when their shorter side is at most `short_side_px`."""
    scale = min(1.0, short_side_px / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def grid_shape(height: int, width: int, scale: Scale, *, track: bool) -> tuple[int, int]:
    """Rows and columns of cells (tracked: of tiles) as near to the wanted size as whole numbers of them come."""
    side_px = scale.cell_px / (TILES if track else 1)
    fewest = 2 * (TILES if track else 1)  # a descriptor is two cells wide and high
    return max(fewest, round(height / side_px)), max(fewest, round(width / side_px))


def field_shares(flow_HW2: Floats, gray_HW: Floats) -> Floats:
    """The directions of the four fields of one flow, float32 (H, W, 32)."""
    fields = [flow_HW2, gradient(flow_HW2[..., 0]), gradient(flow_HW2[..., 1]), gradient(gray_HW)]
    return np.concatenate([soft_orientations(field_HW2) for field_HW2 in fields], axis=2)


def area_means(values_HWV: Floats, grid: tuple[int, int]) -> Floats:
    """The mean over each cell of a grid, float32 (rows, columns, V); a pixel on a border counts for both by area."""
    height, width, num_values = values_HWV.shape
    rows, columns = grid
    by_row_RWV = (_shares(height, rows) @ values_HWV.reshape(height, -1)).reshape(rows, width, num_values)
    means: Floats = _shares(width, columns) @ by_row_RWV
    return means


@cache
def _shares(num_px: int, num_cells: int) -> Floats:
    """How much of each cell of a line is each of its pixels, float32 (num_cells, num_px); rows sum to 1."""
    border = np.linspace(0, num_px, num_cells + 1)
    start, pixel = border[:-1, None], np.arange(num_px)[None, :]
    covered = np.minimum(border[1:, None], pixel + 1) - np.maximum(start, pixel)
    return (np.maximum(covered, 0) * (num_cells / num_px)).astype(np.float32)


def _described(frames: FrameReader, flow: FlowReader, height: int, width: int) -> Iterator[tuple[Floats, Floats]]:
    """Each flow (H, W, 2) in pixels of the described size, and the gray frame (H, W) it starts from."""
    stretch = np.array([width / flow.width, height / flow.height], np.float32)
    for item in range(flow.num_flows):
        flow_HW2 = cv2.resize(flow.read([item])[0], (width, height), interpolation=cv2.INTER_AREA) * stretch
        gray_HW = cv2.resize(frames.read_gray(item), (width, height), interpolation=cv2.INTER_AREA)
        yield flow_HW2, gray_HW.astype(np.float32)


def _drift(flow_HW2: Floats, grid: tuple[int, int]) -> Floats:
    """How far the median flow round each tile moves, in tiles."""
    rows, columns = grid
    height, width, _ = flow_HW2.shape
    median_HW2 = np.stack([cv2.medianBlur(np.ascontiguousarray(flow_HW2[..., c]), MEDIAN_PX) for c in (0, 1)], axis=-1)
    return area_means(median_HW2, grid) * np.array([columns / width, rows / height], np.float32)
