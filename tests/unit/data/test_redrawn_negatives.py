"""Negatives that training draws anew every epoch, through the data set that it reads."""

import numpy as np
import torch

from kineflow.data.dataset import ClipDataset, ClipItem, Sample, collate
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import DecodedImages
from kineflow.training.inputs import model_input

NUM_FRAMES, WINDOW, NUM_EPOCHS = 200, 10, 40
STARTS = ((20, 40), (120, 185))  # of a window that lies inside [20, 50) or [120, 195)
NEGATIVE = ClipItem("v#25-35", "v", 25, 35, 0, redraw_starts=STARTS)
POSITIVE = ClipItem("v#60-70", "v", 60, 70, 1)


def dataset(seed: int = 3, items: tuple[ClipItem, ...] = (NEGATIVE, POSITIVE, NEGATIVE)) -> ClipDataset:
    """Clips of a video whose frame i has the grey value i, seen one by one."""
    video = np.repeat(np.arange(NUM_FRAMES, dtype=np.uint8), 3).reshape(NUM_FRAMES, 1, 1, 3)
    preprocessing = Preprocessing(
        task="clip",
        stream="rgb",
        fps=10.0,
        frames={},
        flow=None,
        sampling="dense",
        num_frames=WINDOW,
        frame_stride=1,
        height_px=1,
        width_px=1,
        decode_height_px=1,
        decode_width_px=1,
        subtract_background=False,
        flow_scale_px=1.0,
        num_views=1,
    )
    return ClipDataset(items, OpenVideos(lambda _: DecodedImages(video)), preprocessing, seed=seed)


def frames_seen(sample: Sample, clips: ClipDataset) -> list[int]:
    tensor_CTHW = model_input(collate([sample]), clips.preprocessing, torch.device("cpu"))[0].numpy()
    return np.round((tensor_CTHW[0, :, 0, 0] * 0.225 + 0.45) * 255).astype(int).tolist()


def starts_by_epoch(index: int, seed: int = 3) -> list[int]:
    clips = dataset(seed)
    seen = [frames_seen(clips.sample(index, epoch=epoch), clips) for epoch in range(NUM_EPOCHS)]
    assert all(frames == list(range(frames[0], frames[0] + WINDOW)) for frames in seen)
    return [frames[0] for frames in seen]


def test_every_epoch_sees_another_place_and_the_same_seed_the_same_places() -> None:
    starts = starts_by_epoch(0)
    assert len(set(starts)) > NUM_EPOCHS // 2  # of 87 places
    assert starts == starts_by_epoch(0)
    assert starts != starts_by_epoch(0, seed=4)
    assert starts != starts_by_epoch(2)  # another negative of the same video


def test_a_redrawn_negative_stays_where_the_rule_allows_it() -> None:
    starts = {start for index in (0, 2) for start in starts_by_epoch(index)}
    assert all(20 <= start <= 40 or 120 <= start <= 185 for start in starts)
    assert any(start <= 40 for start in starts) and any(start >= 120 for start in starts)


def test_positives_and_fixed_views_stay_where_they_are() -> None:
    assert set(starts_by_epoch(1)) == {60}
    clips = dataset()
    fixed = next(clips.fixed_views(0))  # as validation, test and prediction see it
    assert frames_seen(fixed, clips) == list(range(25, 35))
