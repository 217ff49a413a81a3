"""Frames to the features of a frozen 2D backbone: one `.npy` (N, D) for each video; only what changed is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import ParamsError
from kineflow.params import EmbedParams, Params, as_json
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoPlan, VideoTask, compute_missing, link_results
from kineflow.stages.weights_manifest import weights_file
from kineflow.store import ResultStore, digest, file_sha256, home, is_npy
from kineflow.video.result_index import VideoResult, read_index

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier

PARAMS = ("embed", "seed")

# Rises whenever the same frames, weights and params would give other features.
CODE_VERSION = 3

BATCH_FRAMES = 32


@dataclass(frozen=True)
class EmbedTask:
    """A video whose frames are to be embedded, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    params: EmbedParams
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


def plan_embeddings(params: Params, frames: Sequence[VideoResult]) -> VideoPlan[EmbedTask]:
    """The features of every video's frames, which need not be there yet.

    Raises:
        DataError: the weights are not those that sync found.
    """
    weights = weights_file(paths.WEIGHTS, "embed.weights", params.embed.weights)
    seed = params.seed if weights is None else 0  # weights from a file leave nothing to chance
    store = ResultStore(home() / "store" / "embeddings", is_whole=is_npy)
    described = as_json(params.embed) | {"weights": weights and file_sha256(weights), "seed": seed}
    tasks = []
    for video in frames:
        key = digest(kind="embeddings", code=CODE_VERSION, frames=video.key, params=described)
        result = VideoResult(video.video_id, key, video.num_frames)
        source = (paths.FRAMES / f"{video.video_id}.zip").absolute()
        task = EmbedTask(source, key, store.root.absolute(), params.embed, seed, weights and weights.absolute())
        tasks.append(VideoTask(result, task, float(video.num_frames)))
    return VideoPlan(embed_into_store, tasks, store, partial(_feature_bytes, params.embed, weights, seed), num_gpus=1.0)


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
    """Embed the frames of one video, a batch at a time, and return their number."""
    from kineflow.video.frame_store import FrameReader

    model = _model(task.params.backbone, task.weights, task.seed)
    size = (task.params.height_px, task.params.width_px)
    with FrameReader(task.frames) as reader, ResultStore(task.store_root).writing(task.key) as target:
        with target.open("wb") as file:
            for start in range(0, reader.num_frames, BATCH_FRAMES):
                batch = np.arange(start, min(start + BATCH_FRAMES, reader.num_frames))
                features_TD = embed_frames(model, reader.read(batch), size=size).astype(_dtype(task.params))
                if start == 0:
                    _write_header(file, features_TD, num_frames=reader.num_frames)
                file.write(features_TD.tobytes())
        return reader.num_frames


def _write_header(file: BinaryIO, features_TD: NDArray[Any], *, num_frames: int) -> None:
    """Begin a `.npy` file that rows are appended to, as `np.save` would begin it."""
    header = np.lib.format.header_data_from_array_1_0(features_TD)
    as_rows = {"shape": (num_frames, features_TD.shape[1]), "fortran_order": False}  # torch may lay out columns first
    np.lib.format.write_array_header_1_0(file, header | as_rows)


def _feature_bytes(params: EmbedParams, weights: Path | None, seed: int) -> float:
    frame_THWC = np.zeros((1, params.height_px, params.width_px, 3), np.uint8)
    model = _model(params.backbone, weights, seed)
    features_TD = embed_frames(model, frame_THWC, size=(params.height_px, params.width_px))
    return float(features_TD.shape[1] * _dtype(params)().itemsize)


def _dtype(params: EmbedParams) -> type[np.float16] | type[np.float32]:
    return np.float16 if params.precision == "fp16" else np.float32


def embed_frames(
    model: "VideoClassifier", frames_THWC: NDArray[np.uint8], *, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Features of frames, each by itself.

    Args:
        model: of a 2D backbone with pooling `none`, in evaluation mode.
        frames_THWC: uint8 (T, H, W, 3), RGB.
        size: (height, width) in pixels that the model sees.

    Returns:
        float32 (T, D).
    """
    import cv2
    import torch

    from kineflow.models.checkpoints import IMAGENET_MEAN, IMAGENET_STD

    height, width = size
    resized = [
        frame if frame.shape[:2] == size else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        for frame in frames_THWC
    ]
    device = next(model.parameters()).device
    scaled_THWC = torch.from_numpy(np.stack(resized)).to(device).float() / 255
    mean, std = torch.tensor(IMAGENET_MEAN, device=device), torch.tensor(IMAGENET_STD, device=device)
    normal_THWC = (scaled_THWC - mean) / std
    with torch.inference_mode():
        features_BTD = model(normal_THWC.permute(3, 0, 1, 2)[None]).features
    features_TD: NDArray[np.float32] = features_BTD[0].cpu().numpy()
    return features_TD


@lru_cache(maxsize=1)  # one for all videos of a worker
def _model(backbone: str, weights: Path | None, seed: int) -> "VideoClassifier":
    import torch

    from kineflow.models.registry import create_model
    from kineflow.models.weights import load_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(f"{backbone}.none", num_classes=1, in_channels=3, task="frame")
    if weights is not None:
        load_weights(model, str(weights))
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
