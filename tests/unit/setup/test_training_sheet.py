"""The sheet of clips as they are trained on shows the pixels of the input, a class a row, an epoch a column."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kineflow.data.dataset import ClipDataset, ClipItem
from kineflow.data.open_videos import OpenVideos
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.readers import DecodedImages
from kineflow.data.views import Augment
from kineflow.errors import DataError, ParamsError
from kineflow.setup.contact_page import HEAD_PX, THUMB_PX
from kineflow.setup.training_sheet import draw_training_sheet
from kineflow.video.flow_store import FlowRule

RULE = FlowRule("dis_fast", bound_px=8.0)
SIZE = {"height_px": 26, "width_px": 26, "decode_height_px": 26, "decode_width_px": 26}
PREPROCESSING = Preprocessing(
    task="clip",
    stream="rgb",
    fps=10.0,
    frames={},
    flow={"rule": asdict(RULE)},
    sampling="dense",
    num_frames=4,
    frame_stride=1,
    subtract_background=False,
    flow_scale_px=1.0,
    num_views=1,
    **SIZE,
)
RED, GREEN = (200, 40, 20), (10, 180, 60)


def clips_of(preprocessing: Preprocessing, augment: Augment, **changes: np.ndarray) -> ClipDataset:
    videos = {"r": np.full((4, 26, 26, 3), RED, np.uint8), "g": np.full((4, 26, 26, 3), GREEN, np.uint8)} | changes
    items = [ClipItem("c0", "g", 0, 4, 1), ClipItem("c1", "r", 0, 4, 0), ClipItem("c2", "g", 0, 4, 1)]
    return ClipDataset(items, OpenVideos(lambda v: DecodedImages(videos[v])), preprocessing, augment, seed=1)


def drawn(clips: ClipDataset, out: Path, *, epochs: int = 2) -> np.ndarray:
    """The middle pixel of the last frame of each cell, (rows, columns, 3)."""
    draw_training_sheet(clips, ("red", "green"), out, num_frames=2, num_epochs=epochs, max_rows=10)
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    width = 2 * (THUMB_PX[0] + 2) - 2 + 10
    left = pixels.shape[1] - epochs * width
    rows = range(HEAD_PX, pixels.shape[0], THUMB_PX[1] + 25)
    columns = [left + i * width + width - 10 - THUMB_PX[0] // 2 for i in range(epochs)]
    return np.array([[pixels[row + THUMB_PX[1] // 2, column] for column in columns] for row in rows])


def test_each_class_is_shown_in_every_epoch(tmp_path: Path) -> None:
    shown = drawn(clips_of(PREPROCESSING, Augment()), tmp_path / "a.png")
    np.testing.assert_array_equal(shown, [[RED] * 2, [GREEN] * 2])


def test_what_was_mixed_is_seen(tmp_path: Path) -> None:
    clips = clips_of(PREPROCESSING, Augment(mixup=1.0))
    shown = drawn(clips, tmp_path / "a.png", epochs=3)
    for epoch in range(3):
        mixing = clips.batch([1, 0], epoch=epoch).mixing
        assert mixing is not None
        red = mixing.share * np.array(RED) + (1 - mixing.share) * np.array(GREEN)
        np.testing.assert_allclose(shown[0, epoch], red, atol=1)


def test_differences_are_round_grey_and_flow_is_in_colours(tmp_path: Path) -> None:
    brighter = np.full((4, 26, 26, 3), 100, np.uint8) + np.arange(0, 40, 10, np.uint8)[:, None, None, None]
    shown = drawn(clips_of(replace(PREPROCESSING, input="difference"), Augment(), r=brighter), tmp_path / "a.png")
    np.testing.assert_allclose(shown[0, 0], [138] * 3, atol=1)  # 127.5 and 10
    np.testing.assert_allclose(shown[1, 0], [128] * 3, atol=1)
    right, left = (np.full((4, 26, 26, 2), RULE.zero, np.uint8) for _ in range(2))
    right[..., 0] += 40
    left[..., 0] -= 40
    flows = clips_of(replace(PREPROCESSING, stream="flow"), Augment(), r=right, g=left)
    shown = drawn(flows, tmp_path / "b.png")
    np.testing.assert_array_equal(shown[:, 0], [(255, 0, 0), (0, 255, 255)])  # to the right red, to the left cyan


def test_a_sheet_without_classes_and_other_files_are_refused(tmp_path: Path) -> None:
    clips = clips_of(PREPROCESSING, Augment())
    with pytest.raises(ParamsError, match=r"is a \.png"):
        draw_training_sheet(clips, ("red",), tmp_path / "a.jpg", num_frames=2, num_epochs=1, max_rows=1)
    with pytest.raises(DataError, match="shows a class"):
        draw_training_sheet(
            replace(clips, items=[]), ("red",), tmp_path / "a.png", num_frames=2, num_epochs=1, max_rows=1
        )
    assert draw_training_sheet(clips, ("x", "y", "z"), tmp_path / "a.png", num_frames=1, num_epochs=1, max_rows=9) == 2
