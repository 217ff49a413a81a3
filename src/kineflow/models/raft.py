"""RAFT, optical flow by a network: batches of frame pairs, on a GPU where there is one.

Source: Teed and Deng 2020, RAFT: Recurrent all-pairs field transforms for optical flow, as torchvision has it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.models.weights import check_fit, read_state_dict
from kineflow.video.frame_store import FrameReader
from kineflow.video.roi import hold_crop

NAMES = ("raft_small", "raft_large")
MIN_INPUT_PX = 128  # smaller inputs leave nothing of the correlation pyramid's last level
STRIDE_PX = 8  # inputs are whole multiples of it
BATCH_PIXELS = 1_000_000  # bounds memory: some 2 KB each in raft_large
NUM_UPDATES = 12  # torchvision's own for evaluation


def load_raft(name: str, path: Path) -> nn.Module:
    """RAFT with the weights of a local file, in evaluation mode, on the GPU where there is one.

    Args:
        name: raft_small or raft_large.
        path: a state_dict of torchvision's network of that name.

    Raises:
        DataError: the file cannot be read safely, or is not the weights of this network.
    """
    declare_missing_torchvision_ops()
    from torchvision.models import optical_flow

    model: nn.Module = {"raft_small": optical_flow.raft_small, "raft_large": optical_flow.raft_large}[name]()
    found = {key.removeprefix("module."): tensor for key, tensor in read_state_dict(path).items()}
    check_fit(model.state_dict(), found, name=name, path=path, param="flow.weights")
    model.load_state_dict(found)
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def raft_flows(reader: FrameReader, model: nn.Module) -> Iterator[NDArray[np.float32]]:
    """The flow of each frame to the next, float32 (H, W, 2), x then y, in pixels; some frames are held at a time."""
    device = next(model.parameters()).device
    step = max(1, BATCH_PIXELS // (max(reader.height, MIN_INPUT_PX) * max(reader.width, MIN_INPUT_PX)))
    for start in range(0, reader.num_frames - 1, step):
        before_THWC, after_THWC = _pairs(reader, start, min(start + step, reader.num_frames - 1))
        flow_T2HW = flow_of_pairs(model, before_THWC.to(device), after_THWC.to(device))
        yield from flow_T2HW.movedim(1, -1).float().cpu().numpy()


def _pairs(reader: FrameReader, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Frames start to stop, and the one after each, as its crop would have seen it had it stayed."""
    frames_THWC = reader.read(np.arange(start, stop + 1))
    steps_T2 = reader.crop_steps_T2[start:stop]
    pairs = zip(frames_THWC[:-1], frames_THWC[1:], steps_T2, strict=True)
    held = [hold_crop(before, after, step_xy) for before, after, step_xy in pairs]
    return torch.from_numpy(frames_THWC[:-1]), torch.from_numpy(np.stack(held))


def flow_of_pairs(model: nn.Module, before_THWC: Tensor, after_THWC: Tensor) -> Tensor:
    """The flow from the first to the second frame of each pair.

    Args:
        before_THWC, after_THWC: uint8, RGB; padded at the right and at the bottom by repeating the border.

    Returns:
        float32 (T, 2, H, W).
    """
    height, width = before_THWC.shape[1:3]
    right, bottom = (_padded(size) - size for size in (width, height))

    def prepared(frames_THWC: Tensor) -> Tensor:
        frames_TCHW = frames_THWC.movedim(-1, 1).float() / 127.5 - 1
        return functional.pad(frames_TCHW, (0, right, 0, bottom), mode="replicate")

    with torch.inference_mode():
        flow_T2HW: Tensor = model(prepared(before_THWC), prepared(after_THWC), num_flow_updates=NUM_UPDATES)[-1]
    return flow_T2HW[:, :, :height, :width]


def _padded(size_px: int) -> int:
    return max(MIN_INPUT_PX, -(-size_px // STRIDE_PX) * STRIDE_PX)
