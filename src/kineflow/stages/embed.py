"""Frames to the features of a frozen 2D backbone: one `.npy` (N, D) for each video; only what changed is computed."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import ParamsError
from kineflow.params import EmbedParams, Params, as_json
from kineflow.stages import paths
from kineflow.stages.stage import StageReport
from kineflow.stages.video_results import VideoResult, compute_missing, link_results, read_index
from kineflow.store import ResultStore, digest, file_sha256, home

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier

PARAMS = ("embed", "seed")

# Rises whenever the same frames, weights and params would give other features.
CODE_VERSION = 1

BATCH_FRAMES = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EmbedTask:
    """A video whose frames are to be embedded, for a worker that shares our disk (absolute paths)."""

    frames: Path
    key: str
    store_root: Path
    params: EmbedParams
    seed: int


def run(params: Params, report: StageReport) -> None:
    """Write `data/embeddings`, or its disabled form.

    Raises:
        ParamsError: the backbone is not known or does not see frames one by one, or its weights are not there.
        DataError: the frames are missing.
    """
    if not params.embed.enabled:
        paths.write_disabled(paths.EMBEDDINGS, "embed.enabled is false")
        report.note("disabled: embed.enabled is false")
        return
    check_sees_single_frames(params.embed.backbone)
    weights_sha256 = _weights_sha256(params.embed.weights)
    seed = params.seed if params.embed.weights is None else 0  # weights from a file leave nothing to chance
    store = ResultStore(home() / "store" / "embeddings")
    results, tasks = [], []
    for frames in read_index(paths.FRAMES):
        described = as_json(params.embed) | {"weights": weights_sha256, "seed": seed}
        key = digest(kind="embeddings", code=CODE_VERSION, frames=frames.key, params=described)
        result = VideoResult(frames.video_id, key, frames.num_frames)
        source = (paths.FRAMES / f"{frames.video_id}.zip").absolute()
        results.append(result)
        tasks.append(
            (result, EmbedTask(source, key, store.root.absolute(), params.embed, seed), float(frames.num_frames))
        )
    compute_missing(embed_into_store, tasks, store=store, report=report)
    link_results(paths.EMBEDDINGS, results, store=store, suffix="npy")


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
    from kineflow.video.frame_store import FrameReader

    model = _model(task.params.backbone, task.params.weights, task.seed)
    size = (task.params.height_px, task.params.width_px)
    with FrameReader(task.frames) as reader, ResultStore(task.store_root).writing(task.key) as target:
        starts = range(0, reader.num_frames, BATCH_FRAMES)
        indices = [np.arange(start, min(start + BATCH_FRAMES, reader.num_frames)) for start in starts]
        features_ND = np.concatenate([embed_frames(model, reader.read(batch), size=size) for batch in indices])
        with target.open("wb") as file:
            np.save(file, features_ND.astype(np.float16 if task.params.precision == "fp16" else np.float32))
        return len(features_ND)


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

    height, width = size
    resized = [
        frame if frame.shape[:2] == size else cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        for frame in frames_THWC
    ]
    scaled_THWC = torch.from_numpy(np.stack(resized)).float() / 255
    normal_THWC = (scaled_THWC - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    with torch.inference_mode():
        features_BTD = model(normal_THWC.permute(3, 0, 1, 2)[None]).features
    features_TD: NDArray[np.float32] = features_BTD[0].numpy()
    return features_TD


@lru_cache(maxsize=1)  # one for all videos of a worker
def _model(backbone: str, weights: str | None, seed: int) -> "VideoClassifier":
    import torch

    from kineflow.models.registry import create_model
    from kineflow.models.weights import load_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(f"{backbone}.none", num_classes=1, in_channels=3, task="frame")
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def _weights_sha256(weights: str | None) -> str | None:
    if weights is None:
        return None
    from kineflow.models.weights import find_checkpoint

    return file_sha256(find_checkpoint(weights))
