"""Training clips out of the stores and the decoded cache against what people do by hand, on the same JPEGs.

Frames are stored as extraction does by default, with a short side of 256; a clip is 16 of them, every second one, at
112 x 112. Seconds are those of the processor on one thread, as in a fold on CPU, but for the row with two workers.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.clips import real_clips, write_clip
from benchmarks.timing import Comparison, compare
from kineflow.data.dataset import Batch, ClipDataset, ClipItem, collate, num_reads, prefetch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.open_videos import OpenVideos, plan_cache
from kineflow.data.preprocessing import (
    FLOW_CLAMP,
    RGB_MEAN,
    RGB_STD,
    Preprocessing,
    decode_px,
)
from kineflow.data.readers import StreamStore
from kineflow.data.sampling import segment_borders
from kineflow.data.views import Augment, View, draw_view
from kineflow.models.torchvision_compat import declare_missing_torchvision_ops
from kineflow.training.inputs import model_input
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import compute_flow
from kineflow.video.flow_store import FlowReader, FlowRule
from kineflow.video.frame_store import FrameReader

FPS, SHORT_SIDE_PX, SIZE_PX = 30, 256, 112
NUM_FRAMES, STRIDE = 16, 2
NUM_VIDEOS, CLIPS_PER_VIDEO, BATCH_SIZE = 4, 4, 8
AUGMENT = Augment(flip=True, crop_scale_min=0.875)
VARIED = replace(AUGMENT, rotation_deg=20.0, zoom=0.1, shift=0.1, saturation=0.3, hue=0.1)
RULE = FlowRule("dis_fast", bound_px=8.0)
CPU = torch.device("cpu")
RGB = Preprocessing(
    task="clip",
    stream="rgb",
    fps=float(FPS),
    frames={},
    flow=None,
    sampling="dense",
    num_frames=NUM_FRAMES,
    frame_stride=STRIDE,
    height_px=SIZE_PX,
    width_px=SIZE_PX,
    decode_height_px=decode_px(SIZE_PX, smallest_crop=AUGMENT.smallest_crop),
    decode_width_px=decode_px(SIZE_PX, smallest_crop=AUGMENT.smallest_crop),
    subtract_background=False,
    flow_scale_px=1.0,
    num_views=1,
)
FLOW = replace(RGB, stream="flow", sampling="segments", flow={"rule": asdict(RULE)})


def main() -> list[Comparison]:
    """Print the ratios; about a minute."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        items = make_stores(root)
        rgb, cached = dataset(root, RGB, items), dataset(root, RGB, items, cache_bytes=10**9)
        varied = replace(cached, augment=VARIED)
        return [
            _compare_clips("clip, store / imread, area resize", rgb, root, cv2.INTER_AREA),
            _compare_clips("clip, store / imread, bilinear resize", rgb, root, cv2.INTER_LINEAR),
            _compare_clips("clip, cache / imread, area resize", cached, root, cv2.INTER_AREA),
            _compare_clips("clip, cache / imread, bilinear resize", cached, root, cv2.INTER_LINEAR),
            _compare_batches("batch, store / torchvision v2", rgb, root),
            _compare_batches("batch, cache / torchvision v2", cached, root),
            _compare_batches("batch, cache, turned and coloured / torchvision v2", varied, root),
            _compare_batches("batch, store, 2 workers / torchvision v2, 1", rgb, root, num_workers=2),
            _compare_batches("batch, cache, 2 workers / torchvision v2, 1", cached, root, num_workers=2),
            _compare_batches("batch, store, 2 workers / torchvision v2, 2", rgb, root, num_workers=2, num_theirs=2),
            _compare_flow("flow clip, store / imread + cv2", dataset(root, FLOW, items), root),
        ]


def make_stores(root: Path, *, num_videos: int = NUM_VIDEOS) -> list[ClipItem]:
    """Write frame and flow stores, and the same images as files under `images/`; the clips to load.

    The files hold the very bytes of the stores, so both sides decode the same JPEGs.
    """
    sources = real_clips("ut_interaction/videos/*.avi", limit=num_videos)
    if not sources:
        path = root / "source.mp4"
        sources = [write_clip(path, codec="h264", height=288, width=384, fps=FPS, num_frames=64)] * num_videos
    items: list[ClipItem] = []
    rows: dict[str, list[str]] = {"frames": [], "flow": []}
    for stream in rows:
        (root / stream).mkdir()
    for number, source in enumerate(sources):
        video_id = f"{number}-{source.name}"
        frames, flow = (root / stream / f"{video_id}.zip" for stream in rows)
        extract_frames(source, frames, fps=float(FPS), size=FrameSize(None, None, SHORT_SIDE_PX), jpeg_quality=95)
        compute_flow(frames, flow, rule=RULE, jpeg_quality=90)
        for stream, pack in (("rgb", frames), ("flow", flow)):
            with ZipFile(pack) as archive:
                archive.extractall(root / "images" / stream / video_id)
        num_frames = len(FrameReader(frames))
        rows["frames"].append(f"{video_id}\t{number}\t{num_frames}")
        rows["flow"].append(f"{video_id}\t{number}\t{num_frames - 1}")
        span = NUM_FRAMES * STRIDE
        starts = np.linspace(0, num_frames - 1 - span, CLIPS_PER_VIDEO).astype(int).tolist()
        items += [ClipItem(f"{video_id}#{start}", video_id, start, start + span, 0) for start in starts]
    for stream, lines in rows.items():
        (root / stream / "index.tsv").write_text("\n".join(["video_id\tkey\tnum_frames", *lines]) + "\n")
    return items


def dataset(root: Path, preprocessing: Preprocessing, items: list[ClipItem], *, cache_bytes: int = 0) -> ClipDataset:
    """The clips as training loads them; without a cache every clip is decoded from its pack."""
    store = StreamStore.of(preprocessing.stream, root / ("flow" if preprocessing.stream == "flow" else "frames"))
    reads = num_reads(items, preprocessing, looks=100)
    plan = plan_cache(DecodedCache(root / "decoded", cache_bytes), store, preprocessing, reads)
    return ClipDataset(items, OpenVideos(lambda v: store.open(v, preprocessing), plan), preprocessing, AUGMENT)


def clip_by_hand(folder: Path, item: ClipItem, interpolation: int) -> np.ndarray:
    """The frames of a clip by `cv2.imread` and `cv2.resize`; uint8 (T, H, W, 3), RGB."""
    images = (_imread(folder, index, cv2.IMREAD_COLOR_RGB) for index in range(item.start, item.stop, STRIDE))
    return np.stack([cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=interpolation) for image in images])


def clip_by_torchvision(reader: FrameReader, item: ClipItem, view: View) -> Tensor:
    """The same view of a clip by torchvision's v2 functions, frame by frame; float32 (3, T, H, W)."""
    declare_missing_torchvision_ops()
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    frames: list[Tensor] = []
    for index in range(item.start, item.stop, STRIDE):
        frame_HWC = reader.read([index])[0]
        frame_CHW = torch.from_numpy(frame_HWC).permute(2, 0, 1)
        frame_CHW = tv.resized_crop(frame_CHW, *_box(frame_HWC, view), [SIZE_PX, SIZE_PX], antialias=True)
        if view.flip:
            frame_CHW = tv.horizontal_flip(frame_CHW)
        if view.is_moved:
            shift = [round(part * SIZE_PX) for part in view.shift[::-1]]
            bilinear = InterpolationMode.BILINEAR
            frame_CHW = tv.affine(frame_CHW, view.turn_deg, shift, view.zoom, [0.0, 0.0], interpolation=bilinear)
        if view.saturation != 1:
            frame_CHW = tv.adjust_hue(tv.adjust_saturation(frame_CHW, view.saturation), view.hue)
        frame_CHW = tv.to_dtype(frame_CHW, torch.float32, scale=True)
        frames.append(tv.normalize(frame_CHW, [RGB_MEAN] * 3, [RGB_STD] * 3))
    return torch.stack(frames, dim=1)


def flow_by_hand(folder: Path, item: ClipItem, view: View, num_flows: int) -> np.ndarray:
    """The mean flow of each segment by `cv2.imread` and numpy; float32 (2, T, H, W)."""
    stop = min(item.stop, num_flows)
    borders = segment_borders(item.start, stop, FLOW.num_frames, view)
    firsts = np.clip(np.floor(borders[:-1] + 0.5).astype(int), item.start, stop - 1)
    lasts = np.clip(np.floor(borders[1:] + 0.5).astype(int), firsts + 1, stop)
    tensors = []
    for first, last in zip(firsts, lasts, strict=True):
        flows = [_flow(_imread(folder, index, cv2.IMREAD_GRAYSCALE)) for index in range(first, last)]
        flow = np.mean(flows, axis=0)
        top, left, rows, columns = _box(flow, view)
        crop = flow[top : top + rows, left : left + columns]
        resized = cv2.resize(crop, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
        tensors.append(resized * np.array([SIZE_PX / columns, SIZE_PX / rows], np.float32))
    values = np.clip(np.stack(tensors) * np.float32(view.amplitude), -FLOW_CLAMP, FLOW_CLAMP)
    if view.flip:
        values = values[:, :, ::-1] * np.array([-1, 1], np.float32)
    return np.ascontiguousarray(values.transpose(3, 0, 1, 2), dtype=np.float32)


def view_of(clips: ClipDataset, index: int) -> View:
    """The random view that `clips` draws of a clip in epoch 0."""
    assert clips.augment is not None
    return draw_view(np.random.default_rng([clips.seed, 0, index]), clips.augment)


def _compare_clips(label: str, clips: ClipDataset, root: Path, interpolation: int) -> Comparison:
    """Whole frames at the tensor's size, as integers."""

    def ours() -> None:
        for index in range(len(clips)):
            list(clips.fixed_views(index))

    def reference() -> None:
        for item in clips.items:
            clip_by_hand(root / "images" / "rgb" / item.video_id, item, interpolation)

    return _timed(label, ours, reference, num_clips=len(clips))


def _compare_batches(
    label: str, clips: ClipDataset, root: Path, *, num_workers: int = 0, num_theirs: int = 0
) -> Comparison:
    """Random views, cropped, flipped and normalised, in batches that a model can be given; by so many threads."""
    readers = {video_id: FrameReader(root / "frames" / f"{video_id}.zip") for video_id in video_ids(clips.items)}
    batches = [range(first, first + BATCH_SIZE) for first in range(0, len(clips), BATCH_SIZE)] * (1 + num_workers)

    def make(positions: Sequence[int]) -> Batch:
        return collate([clips.sample(position, epoch=0) for position in positions])

    def ours() -> None:
        for batch in prefetch(make, batches, depth=num_workers):
            model_input(batch, clips.preprocessing, CPU)

    def by_torchvision(positions: Sequence[int]) -> None:
        views = [(clips.items[position], view_of(clips, position)) for position in positions]
        torch.stack([clip_by_torchvision(readers[item.video_id], item, view) for item, view in views])

    def reference() -> None:
        with ThreadPoolExecutor(max(1, num_theirs)) as pool:
            for _ in pool.map(by_torchvision, batches) if num_theirs else map(by_torchvision, batches):
                pass

    clock = time.perf_counter if num_workers else time.process_time
    return _timed(label, ours, reference, num_clips=len(batches) * BATCH_SIZE, clock=clock)


def _compare_flow(label: str, clips: ClipDataset, root: Path) -> Comparison:
    num_flows = {video_id: len(FlowReader(root / "flow" / f"{video_id}.zip")) for video_id in video_ids(clips.items)}

    def ours() -> None:
        model_input(collate([clips.sample(index, epoch=0) for index in range(len(clips))]), clips.preprocessing, CPU)

    def reference() -> None:
        for index, item in enumerate(clips.items):
            folder = root / "images" / "flow" / item.video_id
            flow_by_hand(folder, item, view_of(clips, index), num_flows[item.video_id])

    return _timed(label, ours, reference, num_clips=len(clips))


def _timed(
    label: str,
    ours: Callable[[], None],
    reference: Callable[[], None],
    *,
    num_clips: int,
    clock: Callable[[], float] = time.process_time,
) -> Comparison:
    return compare(f"load {label}", ours, reference, max_sec=4.0, num_items=num_clips, unit="clips", clock=clock)


def video_ids(items: Sequence[ClipItem]) -> list[str]:
    """The videos of `items`, each once."""
    return list(dict.fromkeys(item.video_id for item in items))


def _imread(folder: Path, index: int, mode: int) -> np.ndarray:
    image = cv2.imread(str(folder / f"{index:06d}.jpg"), mode)
    assert image is not None
    return image


def _flow(image: np.ndarray) -> np.ndarray:
    steps = image.astype(np.float32) - 128
    return np.stack(np.split(steps * (RULE.bound_px / 127), 2), axis=-1)


def _box(image: np.ndarray, view: View) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    top, left = round(view.crop[0] * height), round(view.crop[1] * width)
    return top, left, min(height - top, round(view.crop[2] * height)), min(width - left, round(view.crop[3] * width))


if __name__ == "__main__":
    main()
