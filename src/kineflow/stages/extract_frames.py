"""Videos to frames: one file for each video, resampled by time; only what changed is decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kineflow import storage
from kineflow.errors import DataError
from kineflow.params import FramesParams, Params, as_json
from kineflow.stages import paths
from kineflow.stages.source_manifest import read_sources
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoPlan, VideoTask, compute_missing, link_results
from kineflow.store import ResultStore, digest, file_sha256, home
from kineflow.tables import VIDEOS, read_table
from kineflow.video.extract import CODE_VERSION, FrameSize, extract_frames
from kineflow.video.jpeg import min_jpeg_bytes_a_pixel
from kineflow.video.pack import is_pack
from kineflow.video.region_files import RegionSource, find_regions
from kineflow.video.resample import num_extracted_frames
from kineflow.video.result_index import VideoResult
from kineflow.video.sampling import VideoLength

if TYPE_CHECKING:
    import pandas as pd

PARAMS = ("frames",)


@dataclass(frozen=True)
class ExtractTask:
    """A video that is to be extracted, for a worker that shares our disk (absolute paths)."""

    uri: str
    sha256: str
    key: str
    store_root: Path
    cache_dir: Path
    fps: float
    size: FrameSize
    jpeg_quality: int
    region: RegionSource | None
    length: VideoLength | None  # as ingest decoded it


def run(params: Params, report: StageReport) -> None:
    """Write `data/frames`.

    Raises:
        DecodeError: a video that ingest could decode cannot be decoded; it is named.
        DataError: a video is gone or changed since sync, or its region of interest is missing or wrong.
        StorageFullError: the frames do not fit on the disk.
    """
    videos = read_table(paths.VIDEOS, VIDEOS)
    report.quarantined = int((videos["status"] != "ok").sum())
    plan = plan_frames(params, videos)
    compute_missing(plan, report, out=paths.FRAMES)
    link_results(paths.FRAMES, plan.results, store=plan.store, suffix="zip")


def plan_frames(params: Params, videos: "pd.DataFrame") -> VideoPlan[ExtractTask]:
    """The frames of every good video of the videos table.

    Raises:
        DataError: a region of interest is missing or wrong.
    """
    store = ResultStore(home() / "store" / "frames", is_whole=is_pack)
    is_followed = params.frames.roi.kind == "pose"
    sources = read_sources(paths.SOURCES) if is_followed else []
    hashes = {source.key: source.sha256 for source in sources if source.kind == "roi"}
    good = videos[videos["status"] == "ok"]
    values = as_json(params.frames)
    regions = find_regions(values.pop("roi"), list(good["video_id"]), hashes)
    tasks = []
    for video in good.itertuples():
        region = regions[video.video_id]
        content = None if region is None else region.content
        key = digest(kind="frames", code=CODE_VERSION, sha256=video.sha256, params=values, region=content)
        result = VideoResult(video.video_id, key, num_extracted_frames(video.duration_sec, params.frames.fps))
        work = float(video.num_frames) * video.width * video.height
        length = VideoLength(int(video.num_frames), float(video.duration_sec))
        task = _task(video.uri, video.sha256, key, store, params.frames, region, length)
        tasks.append(VideoTask(result, task, work))
    return VideoPlan(extract_into_store, tasks, store, partial(_min_frame_bytes, params.frames))


def _min_frame_bytes(frames: FramesParams) -> float:
    short_px = frames.short_side_px or 0
    num_pixels = (frames.height_px or short_px) * (frames.width_px or short_px)
    return num_pixels * min_jpeg_bytes_a_pixel(frames.jpeg_quality)


def extract_into_store(task: ExtractTask) -> int:
    """Extract one video, and return its number of frames.

    Raises:
        DataError: it is gone, changed since sync, or (DecodeError) cannot be decoded.
    """
    check_source(task)
    with ResultStore(task.store_root).writing(task.key) as target:
        return extract_into(target, task)


def check_source(task: ExtractTask) -> None:
    """Fetch the video from S3, and see that it is the one that the tables speak of.

    Raises:
        DataError: it is gone, or changed since sync.
    """
    path = storage.local_file(task.uri, cache_dir=task.cache_dir, sha256=task.sha256)
    if not storage.is_s3(task.uri) and file_sha256(path) != task.sha256:
        raise DataError(f"{task.uri} changed since sync; run sync again")


def extract_into(target: Path, task: ExtractTask, *, enough: Callable[[int], bool] | None = None) -> int:
    """Extract one video to a file of its own, and return its number of frames.

    Args:
        enough: as `extract_frames` has it.
    """
    return extract_frames(
        storage.local_file(task.uri, cache_dir=task.cache_dir, sha256=task.sha256),
        target,
        fps=task.fps,
        size=task.size,
        jpeg_quality=task.jpeg_quality,
        region=None if task.region is None else task.region.read(cache_dir=task.cache_dir),
        length=task.length,
        enough=enough,
    )


def _task(
    uri: str,
    sha256: str,
    key: str,
    store: ResultStore,
    frames: FramesParams,
    region: RegionSource | None,
    length: VideoLength,
) -> ExtractTask:
    return ExtractTask(
        uri=uri if storage.is_s3(uri) else str(Path(uri).absolute()),
        sha256=sha256,
        key=key,
        store_root=store.root.absolute(),
        cache_dir=(home() / "objects").absolute(),
        fps=frames.fps,
        size=FrameSize(frames.height_px, frames.width_px, frames.short_side_px),
        jpeg_quality=frames.jpeg_quality,
        region=region,
        length=length,
    )
