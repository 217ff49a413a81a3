"""Previews of stores: what is drawn, where, and which moment."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from kineflow.errors import DataError, ParamsError
from kineflow.video.flow_store import FlowReader, FlowRule, writing_flow
from kineflow.video.preview import HEAD_PX, Panel, draw_moment, flow_colours, flow_panel, write_moment, write_preview

TIMES_SEC = [0.0, 0.1, 0.25]


def gray_panel(*, height: int = 241, width: int = 61) -> Panel:
    return Panel("frames", lambda item: np.full((height, width, 3), 50 + 50 * item, np.uint8))


@pytest.mark.parametrize(
    ("flow_px", "rgb"),
    [
        ((4.0, 0.0), (255, 0, 0)),
        ((-4.0, 0.0), (0, 255, 255)),
        ((0.0, 4.0), (128, 255, 0)),
        ((0.0, -4.0), (128, 0, 255)),
        ((2.0, 0.0), (127, 0, 0)),
        ((40.0, 0.0), (255, 0, 0)),
        ((0.0, 0.0), (0, 0, 0)),
    ],
)
def test_the_hue_is_where_to_and_the_brightness_how_far(
    flow_px: tuple[float, float], rgb: tuple[int, int, int]
) -> None:
    picture = flow_colours(np.full((2, 2, 2), flow_px, np.float32), full_px=4.0)
    np.testing.assert_allclose(picture[0, 0], rgb, atol=3)


def test_a_film_has_every_frame_at_its_pace_and_even_sides(tmp_path: Path) -> None:
    target = tmp_path / "view.mp4"
    assert write_preview([gray_panel(), gray_panel()], TIMES_SEC, target, fps=12.5) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["view.mp4"]
    with av.open(str(target)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 12.5
    assert len(frames) == 3
    for item, frame in enumerate(frames):
        assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
        np.testing.assert_allclose(frame[HEAD_PX + 100, 30], 50 + 50 * item, atol=6)


@pytest.mark.parametrize(("at_sec", "item"), [(0.0, 0), (0.09, 0), (0.1, 1), (0.2, 1), (0.3, 2)])
def test_a_moment_is_the_frame_shown_then(tmp_path: Path, at_sec: float, item: int) -> None:
    target = tmp_path / "view.png"
    assert write_moment([gray_panel()], TIMES_SEC, target, at_sec=at_sec) == item
    image = cv2.imread(str(target))
    assert image is not None
    assert tuple(image[HEAD_PX + 100, 30]) == (50 + 50 * item,) * 3


def test_a_moment_after_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--at-sec 9: the last frame is that of 0\.25 s"):
        write_moment([gray_panel()], TIMES_SEC, tmp_path / "view.png", at_sec=9.0)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"view\.gif: a film is a \.mp4"):
        write_preview([gray_panel()], TIMES_SEC, tmp_path / "view.gif", fps=10)
    with pytest.raises(ParamsError, match="is not there"):
        write_moment([gray_panel()], TIMES_SEC, tmp_path / "none" / "view.png", at_sec=0.0)


def test_flow_is_shown_over_its_own_range_and_the_last_frame_has_none(tmp_path: Path) -> None:
    path = tmp_path / "flow.zip"
    with writing_flow(path, rule=FlowRule("dis_fast", 8.0), fps=10, height=60, width=80, jpeg_quality=None) as writer:
        for _ in range(2):
            flow = np.zeros((60, 80, 2), np.float32)
            flow[:30, :, 0] = 1.0
            writer.append(flow)
    panel = flow_panel(FlowReader(path))
    assert panel.title == "dis_fast, full colour 1 px a frame"
    shown = panel.image(1)
    np.testing.assert_allclose(shown[10, 10], (255, 0, 0), atol=3)
    assert not shown[40, 10].any()
    assert not panel.image(2).any()
    small = draw_moment([panel], 0, 0.0)
    assert small.shape == (HEAD_PX + 240, 320, 3)  # magnified four times
