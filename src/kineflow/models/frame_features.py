"""Features of single frames by a frozen 2D backbone: what the stage `embed` caches, and prediction computes alike."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DataError
from kineflow.video.feature_store import Precision, write_features
from kineflow.video.frame_store import FrameReader

if TYPE_CHECKING:
    from kineflow.models.classifier import VideoClassifier

# Rises whenever the same frames, weights and sizes would give other features.
CODE_VERSION = 3

BATCH_FRAMES = 32
EMBEDDER_JSON, BACKBONE_FILE = "embedder.json", "backbone.safetensors"


@dataclass(frozen=True)
class Embedder:
    """How a frame becomes its features.

    Args:
        backbone: its name in the registry, without a pooling.
        height_px, width_px: what it sees.
        precision: of the stored features.
    """

    backbone: str
    height_px: int
    width_px: int
    precision: Precision

    def make_backbone(self, weights: Path | None, *, seed: int) -> "VideoClassifier":
        """The backbone in evaluation mode, on the GPU if there is one.

        Args:
            weights: a checkpoint; None: random weights from `seed`.
        """
        import torch

        from kineflow.models.registry import create_model
        from kineflow.models.weights import load_weights

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = create_model(f"{self.backbone}.none", num_classes=1, in_channels=3, task="frame")
        if weights is not None:
            load_weights(model, str(weights))
        return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def save(self, folder: Path, backbone: "VideoClassifier") -> None:
        """Write `embedder.json` and the backbone's weights into a folder."""
        from safetensors.torch import save_file

        tensors = {name: tensor.cpu().contiguous() for name, tensor in backbone.state_dict().items()}
        save_file(tensors, folder / BACKBONE_FILE)
        (folder / EMBEDDER_JSON).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote.

        Raises:
            DataError: there is nothing.
        """
        path = folder / EMBEDDER_JSON
        if not path.is_file():
            raise DataError(f"{path} is not there; run `kineflow stage embed`")
        return cls(**json.loads(path.read_text()))

    def load_backbone(self, path: Path) -> "VideoClassifier":
        """The backbone whose weights `save` wrote to a file.

        Raises:
            DataError: they are not of this backbone.
        """
        from safetensors.torch import load_file

        model = self.make_backbone(None, seed=0)
        try:
            model.load_state_dict(load_file(path))
        except RuntimeError as err:
            raise DataError(f"{path}: does not fit {self.backbone}") from err
        return model


def embed_video(frames: Path, target: Path, embedder: Embedder, backbone: "VideoClassifier") -> int:
    """Write the features of a video's extracted frames to `target` (see `feature_store`), and return their number.

    A batch is in memory at a time.

    Raises:
        DataError: a feature is larger than the embedder's precision can hold.
    """
    with FrameReader(frames) as reader:
        batches = _batches(reader, embedder, backbone)
        write_features(target, batches, num_frames=reader.num_frames, precision=embedder.precision)
        return reader.num_frames


def _batches(reader: FrameReader, embedder: Embedder, backbone: "VideoClassifier") -> Iterator[NDArray[np.float32]]:
    size = (embedder.height_px, embedder.width_px)
    for start in range(0, reader.num_frames, BATCH_FRAMES):
        batch = np.arange(start, min(start + BATCH_FRAMES, reader.num_frames))
        yield embed_frames(backbone, reader.read(batch), size=size)


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
