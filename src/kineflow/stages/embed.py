"""Frames to the features of a frozen 2D backbone: one `.npy` (N, D) for each video, and the backbone itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kineflow.errors import ParamsError
from kineflow.models.frame_features import CODE_VERSION, Embedder, embed_frames, embed_video
from kineflow.params import Params, as_json
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoPlan, VideoTask, compute_missing, link_results
from kineflow.stages.weights_manifest import weights_file
from kineflow.store import ResultStore, digest, file_sha256, home, is_npy
from kineflow.video.feature_store import STORED_AS
from kineflow.video.result_index import VideoResult, read_index

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier

PARAMS = ("embed", "seed")


@dataclass(frozen=True)
class EmbedTask:
    """A video whose frames are to be embedded, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    embedder: Embedder
    seed: int
    weights: Path | None = None


def run(params: Params, report: StageReport) -> None:
    """Write `data/embeddings`, or its disabled form.

    Raises:
        ParamsError: the backbone is not known or does not see frames one by one.
        DataError: the frames are missing, or the weights are not those that sync found.
        StorageFullError: the features do not fit on the disk.
    """
    if not params.embed.enabled:
        paths.write_disabled(paths.EMBEDDINGS, "embed.enabled is false")
        report.note("disabled: embed.enabled is false")
        return
    check_sees_single_frames(params.embed.backbone)
    plan = plan_embeddings(params, read_index(paths.FRAMES))
    compute_missing(plan, report, out=paths.EMBEDDINGS)
    link_results(paths.EMBEDDINGS, plan.results, store=plan.store, suffix="npy")
    embedder, weights, seed = _embedder(params)
    embedder.save(paths.EMBEDDINGS, _backbone(embedder, weights, seed))


def plan_embeddings(params: Params, frames: Sequence[VideoResult]) -> VideoPlan[EmbedTask]:
    """The features of every video's frames, which need not be there yet.

    Raises:
        DataError: the weights are not those that sync found.
    """
    embedder, weights, seed = _embedder(params)
    store = ResultStore(home() / "store" / "embeddings", is_whole=is_npy)
    described = as_json(params.embed) | {"weights": weights and file_sha256(weights), "seed": seed}
    tasks = []
    for video in frames:
        key = digest(kind="embeddings", code=CODE_VERSION, frames=video.key, params=described)
        result = VideoResult(video.video_id, key, video.num_frames)
        source = (paths.FRAMES / f"{video.video_id}.zip").absolute()
        task = EmbedTask(source, key, store.root.absolute(), embedder, seed, weights and weights.absolute())
        tasks.append(VideoTask(result, task, float(video.num_frames)))
    return VideoPlan(embed_into_store, tasks, store, partial(_feature_bytes, embedder, weights, seed), num_gpus=1.0)


def _embedder(params: Params) -> tuple[Embedder, Path | None, int]:
    """How frames are embedded, from which file of weights, and by which seed where there is none."""
    given = params.embed
    weights = weights_file(paths.WEIGHTS, "embed.weights", given.weights)
    embedder = Embedder(given.backbone, given.height_px, given.width_px, given.precision)
    return embedder, weights, params.seed if weights is None else 0  # a file leaves nothing to chance


def check_sees_single_frames(backbone: str) -> None:
    """Refuse a backbone whose features of a frame depend on its neighbours, and so on where a video is cut.

    Raises:
        ParamsError: it is not known, or mixes frames.
    """
    from kineflow.models.registry import find_model
    from kineflow.models.zoo import BACKBONES

    find_model(f"{backbone}.none")
    spec = next(spec for spec in BACKBONES if spec.name == backbone)
    if spec.input != "2d" or spec.receptive_frames != 1:
        raise ParamsError(
            f"embed.backbone {backbone!r} does not see frames one by one, so that features would depend on where a "
            f"video is cut: choose one that does, such as resnet18"
        )


def embed_into_store(task: EmbedTask) -> int:
    """Embed the frames of one video, and return their number."""
    backbone = _backbone(task.embedder, task.weights, task.seed)
    with ResultStore(task.store_root).writing(task.key) as target:
        return embed_video(task.frames, target, task.embedder, backbone)


def _feature_bytes(embedder: Embedder, weights: Path | None, seed: int) -> float:
    frame_THWC = np.zeros((1, embedder.height_px, embedder.width_px, 3), np.uint8)
    backbone = _backbone(embedder, weights, seed)
    features_TD = embed_frames(backbone, frame_THWC, size=(embedder.height_px, embedder.width_px))
    return float(features_TD.shape[1] * STORED_AS[embedder.precision].itemsize)


@lru_cache(maxsize=1)  # one for all videos of a worker
def _backbone(embedder: Embedder, weights: Path | None, seed: int) -> "VideoClassifier":
    return embedder.make_backbone(weights, seed=seed)
