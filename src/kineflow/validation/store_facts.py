"""Facts about the frame and flow stores: what is there against what the tables say, and what the images look like.

Only a few images of each video are decoded; the counts come from the stores themselves, never from an index of them.
"""

import csv
import itertools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.errors import KineflowError
from kineflow.parallel import map_tasks
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader

Stats = TypeVar("Stats")

NUM_SAMPLED_FRAMES = 5
NUM_SAMPLED_FLOWS = 3
BRIGHT_PERCENTILE = 99.0  # of the pixel values of a frame, so that a hot pixel does not light a black video
BOUND_MARGIN = 0.98  # of the clip bound: JPEG blurs what was clipped


@dataclass(frozen=True)
class FrameStats:
    """What the frame store holds of one video.

    Args:
        source_frames_N: the source frame of each extracted frame.
        brightest: the brightest sampled frame's 99th percentile, 0 to 255.
        largest_change: largest change of any pixel between sampled frames, 0 to 255; None for one frame.
        layout: their size and rate in words.
    """

    source_frames_N: NDArray[np.int64]
    brightest: float
    largest_change: float | None
    layout: str


@dataclass(frozen=True)
class FlowStats:
    """What the flow store holds of one video.

    Args:
        num_flows: their number.
        fraction_at_bound: of the sampled pixels, those whose displacement was clipped.
        layout: size and rate of the frames that they are of, in words.
    """

    num_flows: int
    fraction_at_bound: float
    layout: str


def frame_stats(path: Path) -> FrameStats:
    """Sample the frames of one video.

    Raises:
        KineflowError, OSError, zipfile.BadZipFile: the file is missing or broken.
    """
    with FrameReader(path) as reader:
        frames_THWC = reader.read(_spread(reader.num_frames, NUM_SAMPLED_FRAMES)).astype(np.int16)
    brightest = max(float(np.percentile(frame_HWC, BRIGHT_PERCENTILE)) for frame_HWC in frames_THWC)
    changes = [int(np.abs(after - before).max()) for before, after in itertools.pairwise(frames_THWC)]
    largest_change = float(max(changes)) if changes else None
    return FrameStats(reader.source_frames, brightest, largest_change, _layout(reader))


def flow_stats(path: Path) -> FlowStats:
    """Sample the flows of one video.

    Raises:
        KineflowError, OSError, zipfile.BadZipFile: the file is missing or broken.
    """
    with FlowReader(path) as reader:
        if reader.num_flows == 0:  # a video of one frame
            return FlowStats(0, 0.0, _layout(reader))
        flows_THWD = reader.read(_spread(reader.num_flows, NUM_SAMPLED_FLOWS))
    clipped_THW = np.abs(flows_THWD).max(axis=-1) >= BOUND_MARGIN * reader.rule.bound_px
    return FlowStats(reader.num_flows, float(clipped_THW.mean()), _layout(reader))


def _layout(reader: FrameReader | FlowReader) -> str:
    return f"{reader.width}x{reader.height} at {reader.fps:g} fps"


def store_facts(
    expected_frames: Mapping[str, int], frames_dir: Path, flow_dir: Path | None
) -> tuple[pd.DataFrame, dict[str, NDArray[np.int64]]]:
    """One row for each video that is expected or stored.

    Args:
        expected_frames: extracted frames of each ok video, by the tables.
        frames_dir: the frame store, with its `index.tsv`.
        flow_dir: the flow store; None where it is disabled.

    Returns:
        the facts, and the source frames of each video whose frames can be read.
    """
    in_frames = _listed(frames_dir)
    in_flow = _listed(flow_dir) if flow_dir is not None else set()
    video_ids = sorted(set(expected_frames) | in_frames | in_flow)
    items = [
        (
            frames_dir / f"{video_id}.zip" if video_id in in_frames else None,
            flow_dir / f"{video_id}.zip" if flow_dir is not None and video_id in in_flow else None,
        )
        for video_id in video_ids
    ]
    rows: list[dict[str, object]] = []
    source_frames: dict[str, NDArray[np.int64]] = {}
    for i, (frames, flow) in map_tasks(_stats_of_video, items, label="looking at the stores"):
        video_id = video_ids[i]
        expected = expected_frames.get(video_id)
        row: dict[str, object] = {"item": video_id, "frames": _state(frames, expected), "flow": _state(flow, expected)}
        if isinstance(frames, FrameStats):
            source_frames[video_id] = frames.source_frames_N
            row |= {"brightest": frames.brightest, "largest_change": frames.largest_change}
            row |= _count_facts("frames", len(frames.source_frames_N), expected)
        if isinstance(flow, FlowStats):
            row["fraction_at_bound"] = flow.fraction_at_bound
            row |= _count_facts("flows", flow.num_flows, None if expected is None else expected - 1)
            if isinstance(frames, FrameStats) and flow.layout != frames.layout:
                row["flow_mismatch"] = f"flow of {flow.layout}, frames of {frames.layout}"
        rows.append(row)
    columns = ["item", "frames", "frames_difference", "frames_words", "brightest", "largest_change"]
    columns += ["flow", "flows_difference", "flows_words", "flow_mismatch", "fraction_at_bound"]
    numbers = ["frames_difference", "brightest", "largest_change", "flows_difference", "fraction_at_bound"]
    facts = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, "float64") | {"flow_mismatch": "object"})
    facts["flow_mismatch"] = facts["flow_mismatch"].where(facts["flow_mismatch"].notna(), None)
    return facts.sort_values("item", ignore_index=True), source_frames


def _stats_of_video(files: tuple[Path | None, Path | None]) -> tuple[FrameStats | str, FlowStats | str]:
    """Statistics of a video's two files, or in words why there are none."""
    frames_path, flow_path = files
    return _try(frame_stats, frames_path), _try(flow_stats, flow_path)


def _try(stats: Callable[[Path], Stats], path: Path | None) -> Stats | str:
    if path is None:
        return "missing"
    try:
        return stats(path)
    except (KineflowError, OSError, zipfile.BadZipFile, KeyError, ValueError) as err:
        return f"unreadable: {' '.join(str(err).split())}"


def _state(found: FrameStats | FlowStats | str, expected: int | None) -> str:
    if isinstance(found, str):
        return found
    return "stored" if expected is not None else "of no video in the tables"


def _count_facts(kind: str, stored: int, expected: int | None) -> dict[str, object]:
    if expected is None:
        return {}
    return {f"{kind}_difference": stored - expected, f"{kind}_words": f"{stored} {kind}, {expected} expected"}


def _listed(folder: Path) -> set[str]:
    path = folder / "index.tsv"
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {row["video_id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def _spread(number: int, wanted: int) -> NDArray[np.int64]:
    """Up to `wanted` distinct indices spread over [0, number), the first and last among them."""
    return np.unique(np.linspace(0, number - 1, wanted).round().astype(np.int64))
