"""`kineflow contact-sheet --as-trained`: clips as a network is shown them in training, a column for each epoch."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kineflow.annotations import Event
from kineflow.data.dataset import Batch, ClipDataset, ClipItem
from kineflow.data.preprocessing import ORIENTATION_CHANNELS, RGB_MEAN, RGB_STD, Preprocessing
from kineflow.errors import DataError, ParamsError
from kineflow.setup.contact_page import THUMB_PX, Strip, draw_page, save_page
from kineflow.training.inputs import model_input
from kineflow.video.preview import flow_colours

FULL_PERCENTILE = 99  # of the flow that is shown: full colour


def draw_training_sheet(
    clips: ClipDataset, classes: tuple[str, ...], out: Path, *, num_frames: int, num_epochs: int, max_rows: int
) -> int:
    """Draw a training clip of each class as it is seen in the first epochs.

    Args:
        clips: with the random views of training.
        out: a `.png`.
        num_frames: of each clip, evenly spread.
        num_epochs: columns. max_rows: classes, in their order.

    Returns:
        How many classes are shown.

    Raises:
        DataError: no clip shows a class.
        ParamsError: `out` is no `.png`.
    """
    if out.suffix.lower() != ".png":
        raise ParamsError(f"{out}: a contact sheet is a .png; name --out so")
    first_of = {label: _first_clip(clips, index) for index, label in enumerate(classes)}
    chosen = {label: clip for label, clip in first_of.items() if clip is not None}
    if not chosen:
        raise DataError("no training clip of the first fold shows a class; there is nothing to draw")
    labels, indices = list(chosen)[:max_rows], list(chosen.values())[:max_rows]
    columns = [f"epoch {epoch + 1}" for epoch in range(num_epochs)]
    strips: dict[tuple[str, str], Strip] = {}
    for epoch, column in enumerate(columns):
        batch = clips.batch(indices, epoch=epoch)
        shown_BCTHW = model_input(batch, clips.preprocessing, torch.device("cpu")).numpy()
        for row, label in enumerate(labels):
            length = int(batch.num_frames[row])
            times = ((np.arange(num_frames) + 0.5) * length / num_frames).astype(int)
            frames = _pictures(shown_BCTHW[row][:, times], clips.preprocessing)
            event = _event(clips.items[indices[row]], label, clips.preprocessing.fps)
            strips[label, column] = Strip(event, frames, _mixture(batch, labels, row))
    save_page(draw_page(labels, columns, strips, num_frames=num_frames), out)
    return len(labels)


def _first_clip(clips: ClipDataset, class_index: int) -> int | None:
    return next((i for i, item in enumerate(clips.items) if _shows(item.target, class_index)), None)


def _shows(target: int | np.ndarray | None, class_index: int) -> bool:
    if isinstance(target, np.ndarray):
        return bool((target[..., class_index] == 1).any())
    return target == class_index


def _event(item: ClipItem, label: str, fps: float) -> Event:
    return Event(item.video_id, label, item.start / fps, item.stop / fps, "", "")


def _mixture(batch: Batch, labels: list[str], row: int) -> str:
    return "" if batch.mixing is None else f"{1 - batch.mixing.share:.0%} {labels[row - 1]}  "


def _pictures(values_CTHW: np.ndarray, preprocessing: Preprocessing) -> list[Image.Image]:
    """Values of a tensor as pictures: what was taken away is grey, flow in colours."""
    values_THWC = values_CTHW.transpose(1, 2, 3, 0)
    if preprocessing.input == "orientation":  # all directions of the flow itself, as light
        moving_THW = values_THWC[..., : ORIENTATION_CHANNELS // 3].sum(axis=-1, keepdims=True)
        full = max(1e-3, float(np.percentile(moving_THW, FULL_PERCENTILE)))
        pictures = [np.uint8(np.clip(255 * image / full, 0, 255)).repeat(3, axis=-1) for image in moving_THW]
    elif preprocessing.stream == "flow":
        full = max(1e-3, float(np.percentile(np.linalg.norm(values_THWC, axis=-1), FULL_PERCENTILE)))
        pictures = [flow_colours(np.ascontiguousarray(flow_HWC), full_px=full) for flow_HWC in values_THWC]
    else:
        is_relative = preprocessing.subtract_background or preprocessing.input == "difference"
        zero = 0.0 if preprocessing.stream == "pose" else 0.5 if is_relative else RGB_MEAN
        levels_THWC = np.clip((values_THWC * RGB_STD + zero) * 255, 0, 255)
        pictures = list(np.rint(levels_THWC).astype(np.uint8))
    return [_magnified(Image.fromarray(picture)) for picture in pictures]


def _magnified(picture: Image.Image) -> Image.Image:
    """As many times as large as a cell has room for, so that the network's own pixels are seen."""
    factor = max(1, min(THUMB_PX[0] // picture.width, THUMB_PX[1] // picture.height))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
