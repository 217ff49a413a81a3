"""Facts about the frame, flow and pose stores: what is there against the tables, and what the images look like.

Only a few images of each video are decoded; the counts come from the stores themselves, never from an index of them.
What was seen in a file is remembered for as long as the file stays as it is.
"""

import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.errors import KineflowError
from kineflow.parallel.tasks import map_tasks
from kineflow.store import ResultStore, digest
from kineflow.video.flow_store import FlowReader
from kineflow.video.frame_store import FrameReader
from kineflow.video.pose_store import PoseReader
from kineflow.video.result_index import INDEX, read_index

CODE_VERSION = 1  # rises with every change of what is seen in the same file

NUM_SAMPLED_FRAMES = 5
NUM_SAMPLED_FLOWS = 3
BRIGHT_PERCENTILE = 99.0  # of the pixel values of a frame, so that a hot pixel does not light a black video
BOUND_MARGIN = 0.98  # of the clip bound: JPEG blurs what was clipped


@dataclass(frozen=True)
class FrameStats:
    """What the frame store holds of one video.

    Args:
        source_frames: which frame of the video each extracted one is.
        brightest: the brightest sampled frame's 99th percentile, 0 to 255.
        largest_change: largest change of any pixel between sampled frames, 0 to 255; None for one frame.
        layout: their size and rate in words.
    """

    source_frames: list[int]
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


@dataclass(frozen=True)
class PoseStats:
    """What the pose store holds of one video.

    Args:
        num_pictures: their number.
        fraction_with_joints: of the pictures, those that show a joint.
    """

    num_pictures: int
    fraction_with_joints: float


Stats = TypeVar("Stats", FrameStats, FlowStats, PoseStats)


@dataclass(frozen=True)
class StoredFile:
    """A file of a store, and the digest that it was computed under."""

    path: Path
    key: str


@dataclass(frozen=True)
class StoredVideo:
    """A video's files, None where there is none, and where is kept what was seen in them."""

    frames: StoredFile | None
    flow: StoredFile | None
    pose: StoredFile | None
    seen_root: Path


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
    return FrameStats(reader.source_frames.tolist(), brightest, largest_change, _layout(reader))


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


def pose_stats(path: Path) -> PoseStats:
    """What the index of one video's pictures says; one is decoded.

    Raises:
        KineflowError, OSError, zipfile.BadZipFile: the file is missing or broken.
    """
    with PoseReader(path) as reader:
        reader.read([0])
    return PoseStats(reader.num_frames, float((reader.num_joints > 0).mean()))


def store_facts(
    expected_frames: Mapping[str, int],
    frames_dir: Path,
    flow_dir: Path | None,
    pose_dir: Path | None = None,
    *,
    seen_root: Path,
) -> tuple[pd.DataFrame, dict[str, NDArray[np.int64]]]:
    """One row for each video that is expected or stored.

    Args:
        expected_frames: extracted frames of each ok video, by the tables.
        frames_dir: the frame store, with its `index.tsv`.
        flow_dir, pose_dir: the flow and the pose store; None where disabled.
        seen_root: folder in which is kept what was seen in each file.

    Returns:
        the facts, and the source frames of each video whose frames can be read.
    """
    listed = [_listed(folder) for folder in (frames_dir, flow_dir, pose_dir)]
    video_ids = sorted(set(expected_frames).union(*listed))
    seen_root = seen_root.absolute()
    of_frames, of_flow, of_pose = listed
    items = [StoredVideo(of_frames.get(v), of_flow.get(v), of_pose.get(v), seen_root) for v in video_ids]
    rows: list[dict[str, object]] = []
    source_frames: dict[str, NDArray[np.int64]] = {}
    for i, (frames, flow, pose) in map_tasks(_stats_of_video, items, label="looking at the stores"):
        video_id = video_ids[i]
        expected = expected_frames.get(video_id)
        row: dict[str, object] = {"item": video_id, "frames": _state(frames, expected)}
        row |= {"flow": _state(flow, expected), "pose": _state(pose, expected)}
        if isinstance(frames, FrameStats):
            source_frames[video_id] = np.array(frames.source_frames, np.int64)
            row |= {"brightest": frames.brightest, "largest_change": frames.largest_change}
            row |= _count_facts("frames", len(frames.source_frames), expected)
        if isinstance(flow, FlowStats):
            row["fraction_at_bound"] = flow.fraction_at_bound
            row |= _count_facts("flows", flow.num_flows, None if expected is None else expected - 1)
            if isinstance(frames, FrameStats) and flow.layout != frames.layout:
                row["flow_mismatch"] = f"flow of {flow.layout}, frames of {frames.layout}"
        if isinstance(pose, PoseStats):
            row["fraction_with_joints"] = pose.fraction_with_joints
            row |= _count_facts("pictures", pose.num_pictures, expected)
        rows.append(row)
    columns = ["item", "frames", "frames_difference", "frames_words", "brightest", "largest_change"]
    columns += ["flow", "flows_difference", "flows_words", "flow_mismatch", "fraction_at_bound"]
    columns += ["pose", "pictures_difference", "pictures_words", "fraction_with_joints"]
    words = {"item", *(name for name in columns if name.endswith("_words")), "frames", "flow", "flow_mismatch", "pose"}
    numbers = [name for name in columns if name not in words]
    facts = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, "float64") | {"flow_mismatch": "object"})
    facts["flow_mismatch"] = facts["flow_mismatch"].where(facts["flow_mismatch"].notna(), None)
    return facts.sort_values("item", ignore_index=True), source_frames


def _stats_of_video(video: StoredVideo) -> tuple[FrameStats | str, FlowStats | str, PoseStats | str]:
    """Statistics of a video's files of frames, flow and pose, or in words why there are none."""
    seen = ResultStore(video.seen_root)
    return (
        _try(frame_stats, FrameStats, video.frames, seen),
        _try(flow_stats, FlowStats, video.flow, seen),
        _try(pose_stats, PoseStats, video.pose, seen),
    )


def _try(stats: Callable[[Path], Stats], kind: type[Stats], file: StoredFile | None, seen: ResultStore) -> Stats | str:
    if file is None:
        return "missing"
    try:
        return _remembered(stats, kind, file, seen)
    except (KineflowError, OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as err:
        return f"unreadable: {' '.join(str(err).split())}"


def _remembered(stats: Callable[[Path], Stats], kind: type[Stats], file: StoredFile, seen: ResultStore) -> Stats:
    now = file.path.stat()  # what damages a file changes its time or its size
    identity = {"key": file.key, "num_bytes": now.st_size, "changed_ns": now.st_mtime_ns}
    name = digest(kind=kind.__name__, code=CODE_VERSION, **identity)
    if name in seen:
        values: dict[str, Any] = json.loads(seen.path(name).read_text())
        return kind(**values)
    found = stats(file.path)
    with seen.writing(name) as target:
        target.write_text(json.dumps(asdict(found)))
    return found


def _state(found: FrameStats | FlowStats | PoseStats | str, expected: int | None) -> str:
    if isinstance(found, str):
        return found
    return "stored" if expected is not None else "of no video in the tables"


def _count_facts(kind: str, stored: int, expected: int | None) -> dict[str, object]:
    if expected is None:
        return {}
    return {f"{kind}_difference": stored - expected, f"{kind}_words": f"{stored} {kind}, {expected} expected"}


def _listed(folder: Path | None) -> dict[str, StoredFile]:
    """The files of a store by video; none of one that is disabled."""
    if folder is None or not (folder / INDEX).is_file():
        return {}
    folder = folder.absolute()
    return {row.video_id: StoredFile(folder / f"{row.video_id}.zip", row.key) for row in read_index(folder)}


def _spread(number: int, wanted: int) -> NDArray[np.int64]:
    """Up to `wanted` distinct indices spread over [0, number), the first and last among them."""
    return np.unique(np.linspace(0, number - 1, wanted).round().astype(np.int64))
