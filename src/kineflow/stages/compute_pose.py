"""Frames and keypoints to skeleton pictures: one file for each video; only what changed is drawn."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kineflow import storage
from kineflow.models.pose import CODE_VERSION, compute_pose, pose_rule
from kineflow.params import Params, PoseParams
from kineflow.stages import paths
from kineflow.stages.source_manifest import read_sources
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoPlan, VideoTask, compute_missing, link_results
from kineflow.store import ResultStore, digest, home
from kineflow.video.pack import is_pack
from kineflow.video.pose_files import PoseFiles, find_pose_files
from kineflow.video.pose_store import MIN_PICTURE_BYTES, PoseRule
from kineflow.video.result_index import VideoResult, read_index

PARAMS = ("pose", "streams.pose.enabled")


@dataclass(frozen=True)
class PoseTask:
    """A video whose skeletons are to be drawn, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    cache_dir: Path
    rule: PoseRule
    keypoints: PoseFiles | None
    weights: str | None  # a path


def run(params: Params, report: StageReport) -> None:
    """Write `data/pose`, or its disabled form.

    Raises:
        ParamsError: the weights of the network are not on this machine.
        AnnotationError: a video's keypoints are malformed; it is named.
        DataError: the frames are missing, or a video has no keypoints, or fewer of them than frames.
        StorageFullError: the pictures do not fit on the disk.
    """
    if not params.streams.pose.enabled:
        paths.write_disabled(paths.POSE, "streams.pose.enabled is false")
        report.note("disabled: streams.pose.enabled is false")
        return
    plan = plan_pose(params, read_index(paths.FRAMES))
    compute_missing(plan, report, out=paths.POSE)
    link_results(paths.POSE, plan.results, store=plan.store, suffix="zip")


def plan_pose(params: Params, frames: Sequence[VideoResult]) -> VideoPlan[PoseTask]:
    """The pictures of every video's frames, which need not be there yet.

    Raises:
        ParamsError: the weights of the network are not on this machine.
        AnnotationError: a video's keypoints are malformed; it is named.
        DataError: a video has no keypoints.
    """
    store = ResultStore(home() / "store" / "pose", is_whole=is_pack)
    given = params.pose
    rule = pose_rule(
        given.source,
        limbs=given.limbs,
        min_likelihood=given.min_likelihood,
        line_width=given.line_width,
        weights=given.weights,
    )
    files = _pose_files(given, [video.video_id for video in frames])
    weights = _weights(given)
    tasks = []
    for video in frames:
        keypoints = files.get(video.video_id)
        content = None if keypoints is None else keypoints.content
        key = digest(kind="pose", code=CODE_VERSION, frames=video.key, rule=asdict(rule), keypoints=content)
        task = PoseTask(
            frames=(paths.FRAMES / f"{video.video_id}.zip").absolute(),
            key=key,
            store_root=store.root.absolute(),
            cache_dir=(home() / "objects").absolute(),
            rule=rule,
            keypoints=keypoints,
            weights=weights,
        )
        tasks.append(VideoTask(VideoResult(video.video_id, key, video.num_frames), task, float(video.num_frames)))
    num_gpus = 1.0 if given.path is None else 0.0
    return VideoPlan(pose_into_store, tasks, store, lambda: MIN_PICTURE_BYTES, num_gpus=num_gpus)


def pose_into_store(task: PoseTask) -> int:
    """Draw the skeletons of one video, and return the number of pictures.

    Raises:
        DataError: see `compute_pose`.
    """
    with ResultStore(task.store_root).writing(task.key) as target:
        return compute_pose(
            task.frames,
            target,
            rule=task.rule,
            keypoints=task.keypoints,
            weights=task.weights,
            cache_dir=task.cache_dir,
        )


def _weights(pose: PoseParams) -> str | None:
    """The file of the network, for a worker that may run in another folder; None where there is none."""
    if pose.weights is None:
        return None
    from kineflow.models.weight_sources import find_checkpoint

    return str(find_checkpoint(pose.weights).absolute())


def _pose_files(pose: PoseParams, video_ids: list[str]) -> dict[str, PoseFiles]:
    """The files of keypoints of each video, as sync listed them; none where a network finds them."""
    if pose.path is None:
        return {}
    hashes = {source.key: source.sha256 for source in read_sources(paths.SOURCES) if source.kind == "pose"}
    root = pose.path if storage.is_s3(pose.path) else str(Path(pose.path).absolute())
    return find_pose_files(root, hashes, video_ids, hashes)
