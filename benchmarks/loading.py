"""Training clips from the stores against a folder of JPEGs, as most projects keep them: same pixels, same views.

Seconds are those of the processor on one thread, as in a fold on CPU.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import torch

from benchmarks.clips import write_clip
from benchmarks.timing import Comparison, compare
from kineflow.data.dataset import ClipDataset, ClipItem, ReaderCache, collate
from kineflow.data.preprocessing import (
    FLOW_CLAMP,
    RGB_MEAN,
    RGB_STD,
    Augment,
    Preprocessing,
    View,
    draw_view,
    segment_borders,
)
from kineflow.data.readers import StreamStore
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import compute_flow
from kineflow.video.flow_store import FlowRule

ByHand = Callable[[Path, ClipItem, View], np.ndarray]
FPS, HEIGHT_PX, WIDTH_PX, VIDEO_FRAMES = 30, 128, 172, 64
NUM_VIDEOS, CLIPS_PER_VIDEO, CLIP_FRAMES = 4, 4, 48
AUGMENT = Augment(flip=True, crop_scale_min=0.8, brightness=0.2, amplitude=0.2, time_jitter=0.2)
RULE = FlowRule("dis_fast", bound_px=8.0)
RGB = Preprocessing(
    task="clip",
    stream="rgb",
    fps=float(FPS),
    frames={},
    flow=None,
    sampling="segments",
    num_frames=16,
    frame_stride=1,
    height_px=112,
    width_px=112,
    subtract_background=False,
    flow_scale_px=1.0,
    num_views=1,
)
FLOW = replace(RGB, stream="flow")


def main() -> list[Comparison]:
    """Print the ratios; some fifteen seconds."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        items = make_stores(root)
        rgb, flow = dataset(root, RGB, items), dataset(root, FLOW, items)
        again = dataset(root, RGB, items, cache_bytes=2**30)
        return [
            _compare("rgb clips, each decoded, / imread + cv2", rgb, root, rgb_by_hand),
            _compare("rgb clips, each decoded, / imread + torchvision v2", rgb, root, rgb_by_torchvision),
            _compare("rgb clips, second epoch on, / imread + cv2", again, root, rgb_by_hand),
            _compare("flow clips, each decoded, / imread + cv2", flow, root, flow_by_hand),
        ]


def make_stores(root: Path, *, num_videos: int = NUM_VIDEOS) -> list[ClipItem]:
    """Write frame and flow stores, and the same images as files under `images/`; the clips to load.

    The files hold the very bytes of the stores, so both sides decode the same JPEGs.
    """
    source = write_clip(
        root / "source.mp4", codec="h264", height=HEIGHT_PX, width=WIDTH_PX, fps=FPS, num_frames=VIDEO_FRAMES
    )
    ids = [f"{number}.mp4" for number in range(num_videos)]
    for stream in ("frames", "flow"):
        (root / stream).mkdir()
    for video_id in ids:
        frames, flow = (root / stream / f"{video_id}.zip" for stream in ("frames", "flow"))
        extract_frames(source, frames, fps=float(FPS), size=FrameSize(HEIGHT_PX, WIDTH_PX), jpeg_quality=95)
        compute_flow(frames, flow, rule=RULE, jpeg_quality=90)
        for stream, pack in (("rgb", frames), ("flow", flow)):
            with ZipFile(pack) as archive:
                archive.extractall(root / "images" / stream / video_id)
    for stream, num_frames in (("frames", VIDEO_FRAMES), ("flow", VIDEO_FRAMES - 1)):
        rows = [f"{video_id}\t-\t{num_frames}" for video_id in ids]
        (root / stream / "index.tsv").write_text("\n".join(["video_id\tkey\tnum_frames", *rows]) + "\n")
    starts = np.linspace(0, VIDEO_FRAMES - 1 - CLIP_FRAMES, CLIPS_PER_VIDEO).astype(int).tolist()
    return [ClipItem(f"{v}#{start}", v, start, start + CLIP_FRAMES, 0) for v in ids for start in starts]


def dataset(root: Path, preprocessing: Preprocessing, items: list[ClipItem], *, cache_bytes: int = 0) -> ClipDataset:
    """The clips as training loads them; without a cache every clip is decoded from its pack."""
    store = StreamStore.of(preprocessing.stream, root / ("flow" if preprocessing.stream == "flow" else "frames"))
    return ClipDataset(items, ReaderCache(store.open, cache_bytes), preprocessing, AUGMENT)


def rgb_by_hand(folder: Path, item: ClipItem, view: View) -> np.ndarray:
    """The same tensor by `cv2.imread`, crop, resize and numpy; float32 (3, T, H, W)."""
    images = [_crop(_imread(folder, index, cv2.IMREAD_COLOR_RGB), view) for index in _middles(item, view)]
    values = np.stack([cv2.resize(image, (112, 112), interpolation=_interpolation(image)) for image in images])
    unit = values.astype(np.float32) / 255
    unit = np.clip((unit - 0.5) * np.float32(view.gain) + np.float32(0.5 + view.offset), 0, 1)
    unit = (unit - np.float32(RGB_MEAN)) / np.float32(RGB_STD)
    if view.flip:
        unit = unit[:, :, ::-1]
    return np.ascontiguousarray(unit.transpose(3, 0, 1, 2))


def rgb_by_torchvision(folder: Path, item: ClipItem, view: View) -> np.ndarray:
    """The same view by torchvision's v2 functions (their resize smooths a little differently)."""
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2 import functional as tv

    images = [_imread(folder, index, cv2.IMREAD_COLOR_RGB) for index in _middles(item, view)]
    clip_TCHW = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    top, left, rows, columns = _box(images[0], view)
    clip_TCHW = tv.resized_crop(clip_TCHW, top, left, rows, columns, [112, 112], antialias=True)
    if view.flip:
        clip_TCHW = tv.horizontal_flip(clip_TCHW)
    clip_TCHW = tv.to_dtype(clip_TCHW, torch.float32, scale=True)
    clip_TCHW = ((clip_TCHW - 0.5) * view.gain + 0.5 + view.offset).clamp(0, 1)
    clip_TCHW = tv.normalize(clip_TCHW, [RGB_MEAN] * 3, [RGB_STD] * 3)
    return clip_TCHW.transpose(0, 1).contiguous().numpy()


def flow_by_hand(folder: Path, item: ClipItem, view: View) -> np.ndarray:
    """The mean flow of each segment by `cv2.imread` and numpy; float32 (2, T, H, W)."""
    stop = min(item.stop, VIDEO_FRAMES - 1)
    borders = segment_borders(item.start, stop, FLOW.num_frames, view)
    firsts = np.clip(np.floor(borders[:-1] + 0.5).astype(int), item.start, stop - 1)
    lasts = np.clip(np.floor(borders[1:] + 0.5).astype(int), firsts + 1, stop)
    tensors = []
    for first, last in zip(firsts, lasts, strict=True):
        flows = [_flow(_imread(folder, index, cv2.IMREAD_GRAYSCALE)) for index in range(first, last)]
        image = _crop(np.mean(flows, axis=0), view)
        resized = cv2.resize(image, (112, 112), interpolation=_interpolation(image))
        tensors.append(resized * np.array([112 / image.shape[1], 112 / image.shape[0]], np.float32))
    values = np.clip(np.stack(tensors) * np.float32(view.amplitude), -FLOW_CLAMP, FLOW_CLAMP)
    if view.flip:
        values = values[:, :, ::-1] * np.array([-1, 1], np.float32)
    return np.ascontiguousarray(values.transpose(3, 0, 1, 2), dtype=np.float32)


def _compare(label: str, clips: ClipDataset, root: Path, by_hand: ByHand) -> Comparison:
    folder = root / "images" / clips.preprocessing.stream

    def ours() -> None:
        collate([clips.sample(index, epoch=0) for index in range(len(clips))])

    def reference() -> None:
        np.stack([by_hand(folder / item.video_id, item, view_of(clips, i)) for i, item in enumerate(clips.items)])

    return compare(
        f"load {label}", ours, reference, max_sec=3.0, num_items=len(clips), unit="clips", clock=time.process_time
    )


def view_of(clips: ClipDataset, index: int) -> View:
    """The random view that `clips` draws of a clip in epoch 0."""
    return draw_view(np.random.default_rng([clips.seed, 0, index]), AUGMENT)


def _imread(folder: Path, index: int, mode: int) -> np.ndarray:
    image = cv2.imread(str(folder / f"{index:06d}.jpg"), mode)
    assert image is not None
    return image


def _flow(image: np.ndarray) -> np.ndarray:
    steps = image.astype(np.float32) - 128
    return np.stack(np.split(steps * (RULE.bound_px / 127), 2), axis=-1)


def _middles(item: ClipItem, view: View) -> list[int]:
    borders = segment_borders(item.start, item.stop, RGB.num_frames, view)
    return np.clip(np.floor((borders[:-1] + borders[1:]) / 2).astype(int), item.start, item.stop - 1).tolist()


def _box(image: np.ndarray, view: View) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    top, left = round(view.crop[0] * height), round(view.crop[1] * width)
    return top, left, min(height - top, round(view.crop[2] * height)), min(width - left, round(view.crop[3] * width))


def _crop(image: np.ndarray, view: View) -> np.ndarray:
    top, left, rows, columns = _box(image, view)
    return image[top : top + rows, left : left + columns]


def _interpolation(image: np.ndarray) -> int:
    return cv2.INTER_AREA if min(image.shape[:2]) >= 112 else cv2.INTER_LINEAR


if __name__ == "__main__":
    main()
