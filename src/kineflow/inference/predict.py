"""Label videos with a release model, from the video file on: extraction, flow, pose and tensors as in training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from kineflow.data.clips import num_window_frames, slide, tile
from kineflow.data.dataset import ClipDataset, ClipItem
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Images, Preprocessing
from kineflow.data.probabilities import mean_by_row
from kineflow.data.readers import StoreReader, stored_features, stored_images
from kineflow.descriptors import inputs as fisher
from kineflow.descriptors.cells import VideoCells, cells_key, video_cells
from kineflow.descriptors.model import load_model
from kineflow.errors import DataError, DecodeError
from kineflow.inference.keypoints import find_keypoints
from kineflow.models.flow import compute_flow
from kineflow.models.frame_features import CODE_VERSION as FEATURES_CODE_VERSION
from kineflow.models.frame_features import Embedder, embed_video
from kineflow.models.pose import CODE_VERSION as POSE_CODE_VERSION
from kineflow.models.pose import compute_pose
from kineflow.store import ResultStore, digest, file_sha256, home, is_npy
from kineflow.training.bundle import AnyMember, Bundle, FisherMember, Member, read_bundle
from kineflow.training.precision import choose_device
from kineflow.training.scoring import predict_probs
from kineflow.video.extract import CODE_VERSION as FRAMES_CODE_VERSION
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.feature_store import FeatureReader
from kineflow.video.flow import CODE_VERSION as FLOW_CODE_VERSION
from kineflow.video.flow_store import FlowReader, FlowRule
from kineflow.video.frame_store import FrameReader
from kineflow.video.pack import is_pack
from kineflow.video.pose_store import PoseReader, PoseRule
from kineflow.video.region_files import find_regions

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier

WHOLE = {"kind": "full"}  # bundles made before regions of interest say nothing of them
BATCH_SIZE = 8


@dataclass(frozen=True)
class VideoFile:
    """A video to label.

    Args:
        video_id: what the answer calls it.
        path: of the file.
        sha256: of its bytes, if known; it names what was extracted from it before.
    """

    video_id: str
    path: Path
    sha256: str | None = None


@dataclass(frozen=True)
class TimedClip:
    """A part of a video, by time, so that it means the same at every frame rate.

    Args:
        start_sec: None for the start of the video.
        stop_sec: None for its end.
    """

    clip_id: str
    video_id: str
    start_sec: float | None = None
    stop_sec: float | None = None


def score_clips(bundle_dir: Path, clips: Sequence[TimedClip], videos: Sequence[VideoFile]) -> pd.DataFrame:
    """Probabilities of every clip under the release model in `bundle_dir`.

    Returns:
        Columns clip_id, video_id, then one for each class; on task frame also `frame` (extracted frame of the model's
        own frame rate) and one row for each frame of each clip.

    Raises:
        DataError: the folder holds no release model, or a clip lies outside of its video.
        DecodeError: a video cannot be read.
    """
    bundle = read_bundle(bundle_dir)
    files = {video.video_id: video for video in videos}
    by_stream: dict[str, list[list[np.ndarray]]] = {}
    items: list[ClipItem] = []
    for member in bundle.members:
        items, probs = _member_probs(bundle, member, clips, files)
        by_stream.setdefault(member.stream, []).append(probs)
    weights = [bundle.weight_of(stream) for stream in by_stream]
    tables = []
    for position, item in enumerate(items):
        of_streams = [np.mean([probs[position] for probs in members], axis=0) for members in by_stream.values()]
        rows_NK = np.atleast_2d(np.average(of_streams, axis=0, weights=weights))
        table = pd.DataFrame(rows_NK, columns=list(bundle.classes))
        if bundle.task == "frame":
            table.insert(0, "frame", np.arange(item.start, item.start + len(rows_NK)))
        table.insert(0, "video_id", item.video_id)
        table.insert(0, "clip_id", item.clip_id)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["clip_id", "video_id"])


def prepare(video: VideoFile, preprocessing: Preprocessing) -> StoreReader:
    """The reader of `video` as `preprocessing` wants it; what was not made of it before is made."""
    store = _store()
    frames_key = _prepare_frames(video, preprocessing.frames, store)
    if preprocessing.stream == "rgb":
        return FrameReader(store.path(frames_key))
    if preprocessing.stream == "pose":
        return _prepare_pose(video, preprocessing, frames_key, store)
    assert preprocessing.flow is not None
    flow_key = _prepare_flow(preprocessing.flow, frames_key, store)
    return _checked(FlowReader(store.path(flow_key)), video)


def open_images(video: VideoFile, bundle: Bundle, member: Member) -> Images:
    """The images of `video`, or the features of its frames, as `member` wants them; what is missing is made.

    Raises:
        DataError: the bundle lacks the backbone that frames are to be embedded by.
    """
    if member.preprocessing.stream != "embedding":
        return stored_images(prepare(video, member.preprocessing), member.preprocessing)
    if member.needs_backbone:
        raise DataError(
            f"{bundle.root}: this model on embeddings was saved without its backbone, so it cannot label new videos; "
            f"take the release model, and train it again if it is of an older Kineflow"
        )
    assert member.embedder is not None
    store, weights = _store(), bundle.root / member.backbone_weights
    frames_key = _prepare_frames(video, member.preprocessing.frames, store)
    features = ResultStore(home() / "store" / "predict_embeddings", is_whole=is_npy)
    sha256 = file_sha256(weights)
    described = {"embedder": asdict(member.embedder), "weights": sha256}
    key = digest(frames=frames_key, code=FEATURES_CODE_VERSION, **described)
    if key not in features:
        backbone = _backbone(member.embedder, weights, sha256)
        with features.writing(key) as target:
            embed_video(store.path(frames_key), target, member.embedder, backbone)
    return stored_features(FeatureReader(features.path(key)))


@lru_cache(maxsize=1)  # one for all videos; by the hash too, for another bundle may lie at the path later
def _backbone(embedder: Embedder, weights: Path, sha256: str) -> "VideoClassifier":
    return embedder.load_backbone(weights)


def prepare_cells(video: VideoFile, described: fisher.FisherInput) -> VideoCells:
    """The cells of `video` as `described` wants them; what was not made of it before is made."""
    store = _store()
    frames_key = _prepare_frames(video, described.frames, store)
    flow_key = _prepare_flow(described.flow, frames_key, store)
    _checked(FlowReader(store.path(flow_key)), video)
    key = cells_key(frames_key, flow_key, described.cells)
    cells_store = ResultStore(home() / "store" / "cells")
    return video_cells(store.path(frames_key), store.path(flow_key), key, described.cells, cells_store)


def _store() -> ResultStore:
    return ResultStore(home() / "store" / "predict", is_whole=is_pack)


def _prepare_frames(video: VideoFile, frames: dict[str, Any], store: ResultStore) -> str:
    """The key of the video's extracted frames, which are in the store afterwards."""
    sha256 = video.sha256 or file_sha256(video.path)
    sizes = {name: value for name, value in frames.items() if name != "roi"}
    region = find_regions(frames.get("roi", WHOLE), [video.video_id], {})[video.video_id]
    content = None if region is None else region.content
    frames_key = digest(sha256=sha256, frames=sizes, region=content, code=FRAMES_CODE_VERSION)
    if frames_key not in store:
        try:
            with store.writing(frames_key) as target:
                extract_frames(
                    video.path,
                    target,
                    fps=frames["fps"],
                    size=FrameSize(frames["height_px"], frames["width_px"], frames["short_side_px"]),
                    jpeg_quality=frames["jpeg_quality"],
                    region=None if region is None else region.read(cache_dir=home() / "objects"),
                )
        except DecodeError as err:
            raise DecodeError(f"{video.video_id} cannot be labelled: {err}") from err
    return frames_key


def _prepare_flow(flow: dict[str, Any], frames_key: str, store: ResultStore) -> str:
    """The key of the flow of extracted frames, which is in the store afterwards."""
    rule, jpeg_quality = FlowRule(**flow["rule"]), flow["jpeg_quality"]
    flow_key = digest(frames=frames_key, rule=asdict(rule), jpeg_quality=jpeg_quality, code=FLOW_CODE_VERSION)
    if flow_key not in store:
        with store.writing(flow_key) as target:
            compute_flow(store.path(frames_key), target, rule=rule, jpeg_quality=jpeg_quality, weights=flow["weights"])
    return flow_key


def _prepare_pose(video: VideoFile, preprocessing: Preprocessing, frames_key: str, store: ResultStore) -> StoreReader:
    """The skeletons of extracted frames: of the keypoints beside the video, or found by the network of training."""
    assert preprocessing.pose is not None
    rule, weights = PoseRule(**preprocessing.pose["rule"]), preprocessing.pose["weights"]
    keypoints = None
    if rule.source == "files":
        keypoints = find_keypoints(video.path, video.video_id, trained_on=preprocessing.pose["path"])
    content = None if keypoints is None else keypoints.content
    pose_key = digest(frames=frames_key, rule=asdict(rule), keypoints=content, code=POSE_CODE_VERSION)
    if pose_key not in store:
        with store.writing(pose_key) as target:
            compute_pose(
                store.path(frames_key),
                target,
                rule=rule,
                keypoints=keypoints,
                weights=weights,
                cache_dir=home() / "objects",
            )
    return PoseReader(store.path(pose_key))


def _member_probs(
    bundle: Bundle, member: AnyMember, clips: Sequence[TimedClip], files: Mapping[str, VideoFile]
) -> tuple[list[ClipItem], list[np.ndarray]]:
    if isinstance(member, FisherMember):
        return _fisher_probs(bundle, member, clips, files)
    return _network_probs(bundle, member, clips, files)


def _fisher_probs(
    bundle: Bundle, member: FisherMember, clips: Sequence[TimedClip], files: Mapping[str, VideoFile]
) -> tuple[list[ClipItem], list[np.ndarray]]:
    described = member.preprocessing
    wanted = dict.fromkeys(clip.video_id for clip in clips)
    cells = {video_id: prepare_cells(files[video_id], described) for video_id in wanted}
    items = [_as_item(clip, described.fps, cells[clip.video_id].num_flows + 1) for clip in clips]
    model = load_model(bundle.root / member.weights, flip=described.flip)
    with threadpool_limits(1):  # as in training
        return items, fisher.predict_probs(model, items, cells.__getitem__, described, bundle.labels)


def _network_probs(
    bundle: Bundle, member: Member, clips: Sequence[TimedClip], files: Mapping[str, VideoFile]
) -> tuple[list[ClipItem], list[np.ndarray]]:
    device = choose_device(1.0)
    preprocessing = member.preprocessing
    wanted = dict.fromkeys(clip.video_id for clip in clips)
    opened = {video_id: open_images(files[video_id], bundle, member) for video_id in wanted}
    num_frames = {v: len(images) + (preprocessing.stream == "flow") for v, images in opened.items()}
    items = [_as_item(clip, preprocessing.fps, num_frames[clip.video_id]) for clip in clips]
    dataset = ClipDataset(items, OpenVideos(opened.__getitem__), preprocessing)
    model = bundle.load_model(member, device)
    return items, predict_probs(
        model, dataset, labels=bundle.labels, batch_size=BATCH_SIZE, device=device, precision=member.precision
    )


def _checked(reader: FlowReader, video: VideoFile) -> FlowReader:
    if len(reader) == 0:
        raise DataError(f"{video.video_id}: a video of one frame has no flow, so this model cannot label it")
    return reader


def _as_item(clip: TimedClip, fps: float, num_frames: int) -> ClipItem:
    start = round((clip.start_sec or 0.0) * fps)
    stop = num_frames if clip.stop_sec is None else min(num_frames, max(start + 1, round(clip.stop_sec * fps)))
    if not 0 <= start < stop:
        raise DataError(f"clip {clip.clip_id} starts at {clip.start_sec} s, after the end of {clip.video_id}")
    return ClipItem(clip.clip_id, clip.video_id, start, stop, None)


def label_videos(bundle_dir: Path, paths: Sequence[Path]) -> pd.DataFrame:
    """Probabilities of whole videos, named by their paths; on task frame one row for each frame.

    Where classes exclude each other, the column `label` names the most probable one. On task frame a video is cut into
    windows as in training, and a frame that several windows hold gets the mean of their probabilities.

    Raises:
        DataError: the folder holds no release model, or a file is not there.
        DecodeError: a video cannot be read.
    """
    bundle = read_bundle(bundle_dir)
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is not there")
    videos = [VideoFile(str(path), path) for path in paths]
    if bundle.task == "clip":
        clips = [TimedClip(video.video_id, video.video_id) for video in videos]
    else:
        clips = [window for video in videos for window in _windows(bundle, video)]
    table = score_clips(bundle_dir, clips, videos).drop(columns="clip_id")
    classes = list(bundle.classes)
    if bundle.task == "frame":
        table = _each_frame_once(table, classes)
    if bundle.labels == "exclusive":
        label_N = np.array(classes, dtype=object)[table[classes].to_numpy().argmax(axis=1)]
        table.insert(table.columns.get_loc(classes[0]), "label", label_N)
    return table


def _windows(bundle: Bundle, video: VideoFile) -> list[TimedClip]:
    preprocessing = bundle.members[0].preprocessing
    fps, length = preprocessing.fps, preprocessing.num_frames
    store = _store()
    num_frames = len(FrameReader(store.path(_prepare_frames(video, preprocessing.frames, store))))
    if bundle.window_stride_sec is None:
        spans = tile(num_frames, length)
    else:  # training may leave frames between windows out, an answer may not
        spans = slide(num_frames, length, min(length, num_window_frames(bundle.window_stride_sec, fps=fps)))
    return [TimedClip(f"{video.video_id}#{a}-{b}", video.video_id, a / fps, b / fps) for a, b in spans]


def _each_frame_once(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    keys = ["video_id", "frame"]
    row_W = table.groupby(keys, sort=False).ngroup().to_numpy()
    rows = table.loc[~table.duplicated(keys), keys].reset_index(drop=True)
    rows[classes] = mean_by_row(table[classes].to_numpy(), row_W, num_rows=len(rows))
    return rows
