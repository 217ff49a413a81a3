from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from kineflow.errors import DataError
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.flow import compute_flow
from kineflow.video.flow_store import FlowReader, FlowRule
from kineflow.video.frame_store import FrameReader
from kineflow.video.roi import Region, cutter, follow, hold_crop

HEIGHT, WIDTH = 120, 160


def texture(seed: int = 0) -> np.ndarray:
    """A smooth picture with detail everywhere, uint8 (HEIGHT, WIDTH)."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_video(path: Path, images: list[np.ndarray]) -> Path:
    """Gray images, without loss, at 10 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *images[0].shape, "yuv420p"
        for image in images:
            grey = np.full((image.shape[0] // 2, image.shape[1]), 128, np.uint8)
            luma = np.rint(16 + image * (219 / 255)).astype(np.uint8)  # what video calls black is 16
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, grey]), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def extract(source: Path, region: Region | None, size: FrameSize) -> FrameReader:
    target = source.with_suffix(".zip")
    extract_frames(source, target, fps=10.0, size=size, jpeg_quality=95, region=region)
    return FrameReader(target)


def test_a_fixed_box_shows_just_those_pixels(tmp_path: Path) -> None:
    image = texture()
    source = write_video(tmp_path / "a.mkv", [image] * 3)
    reader = extract(source, Region(60, 40, np.array([[30.0, 50.0]])), FrameSize(40, 60))
    assert (reader.height, reader.width) == (40, 60)
    np.testing.assert_allclose(reader.read_gray(0).astype(int), image[50:90, 30:90], atol=12)
    assert not reader.crop_steps_T2.any()


def test_a_box_is_scaled_to_the_size_of_frames(tmp_path: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[40:80, 40:80] = 200
    source = write_video(tmp_path / "a.mkv", [image] * 2)
    gray = extract(source, Region(80, 80, np.array([[20.0, 20.0]])), FrameSize(40, 40)).read_gray(0)
    assert gray[12:28, 12:28].min() > 180  # the square is the middle half
    assert gray[:8].max() < 20 and gray[:, 32:].max() < 20


@pytest.mark.parametrize("turn_deg", [90, 180, 270])
def test_a_box_counts_in_the_video_as_shown(tmp_path: Path, turn_deg: int) -> None:
    image = texture()
    write_video(tmp_path / "plain.mkv", [image] * 2)
    with av.open(str(tmp_path / "plain.mkv")) as plain, av.open(str(tmp_path / "a.mkv"), "w") as target:
        stream = target.add_stream_from_template(plain.streams.video[0])
        stream.set_display_rotation(turn_deg)
        for packet in plain.demux(plain.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    shown = np.rot90(image, turn_deg // 90)
    gray = extract(tmp_path / "a.mkv", Region(60, 40, np.array([[30.0, 50.0]])), FrameSize(40, 60)).read_gray(0)
    np.testing.assert_allclose(gray.astype(int), shown[50:90, 30:90], atol=12)


@pytest.mark.parametrize(
    ("region", "size", "message"),
    [
        (Region(100, 40, np.array([[61.0, 0.0]])), (40, 100), "100x40 pixels at 61,0 leaves the video of 160x120"),
        (Region(200, 200, np.zeros((3, 2))), (64, 64), "200x200 pixels leaves the video of 160x120"),
        (Region(1, 1, np.array([[0.0, 0.0]])), (224, 224), "too small"),
    ],
)
def test_regions_that_cannot_be_are_refused(region: Region, size: tuple[int, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cutter(region, height=size[0], width=size[1], shown_height=HEIGHT, shown_width=WIDTH)


def test_keypoints_must_last_as_long_as_the_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", [texture()] * 4)
    with pytest.raises(DataError, match="keypoints end at frame 3"):
        extract(source, Region(40, 40, np.zeros((3, 2))), FrameSize(40, 40))


def test_a_crop_follows_believed_points_and_joins_them_by_lines() -> None:
    xy_T2 = np.array([[9, 9], [10, 20], [99, 99], [np.nan, np.nan], [40, 50], [7, 7]])
    likelihood_T = np.array([0.1, 0.9, 0.2, 0.9, 0.95, np.nan])
    region = follow(xy_T2, likelihood_T, side_px=4, min_likelihood=0.5, smooth=1)
    # By hand: from (10, 20) to (40, 50) in three steps, the ends held, less half a side.
    np.testing.assert_allclose(region.xy_T2[:, 0], [8, 8, 18, 28, 38, 38])
    np.testing.assert_allclose(region.xy_T2[:, 1], [18, 18, 28, 38, 48, 48])
    smooth = follow(xy_T2, likelihood_T, side_px=4, min_likelihood=0.5, smooth=3)
    np.testing.assert_allclose(smooth.xy_T2[:, 0], [8, 34 / 3, 18, 28, 104 / 3, 38])
    with pytest.raises(DataError, match="no keypoint has a likelihood"):
        follow(xy_T2, likelihood_T, side_px=4, min_likelihood=0.99, smooth=1)


def test_a_held_crop_is_the_scene_as_the_first_crop_saw_it() -> None:
    scene = np.arange(100, dtype=np.uint8).reshape(10, 10)
    for dx, dy in ((0, 0), (2, 1), (-2, 3), (3, -1), (-1, -2), (9, 0)):
        first, second = scene[3:7, 3:7], np.full((4, 4), 255, np.uint8)
        for y in range(4):
            for x in range(4):
                if 0 <= 3 + dy + y < 10 and 0 <= 3 + dx + x < 10:
                    second[y, x] = scene[3 + dy + y, 3 + dx + x]
        np.testing.assert_array_equal(hold_crop(first, second, (dx, dy)), first)


@pytest.mark.parametrize("method", ["dis_fast", "dis_medium", "tvl1"])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_static_texture_under_a_moving_crop_gives_no_flow(tmp_path: Path, method: str, scale: float) -> None:
    source = write_video(tmp_path / "a.mkv", [texture()] * 8)
    angle = np.linspace(0, 3, 8)
    centres_T2 = np.stack([80 + 30 * np.cos(angle), 60 + 20 * np.sin(angle)], axis=1)  # up to 13 px a frame
    region = follow(centres_T2, np.ones(8), side_px=64, min_likelihood=0.5, smooth=1)
    side_px = int(64 * scale)
    reader = extract(source, region, FrameSize(side_px, side_px))
    assert np.abs(reader.crop_steps_T2).max() >= 8
    assert np.abs(reader.read_gray(0).astype(int) - reader.read_gray(7)).mean() > 10  # the crop does move
    compute_flow(reader.path, tmp_path / "flow.zip", rule=FlowRule(method, 8.0), jpeg_quality=None)
    flow = FlowReader(tmp_path / "flow.zip").read(np.arange(7))
    assert np.abs(flow).mean() < 0.03  # not 0: JPEG differs a little between two cuts, and some solvers see it
    assert np.percentile(np.abs(flow), 99) < 0.5


def test_what_moves_keeps_its_flow_under_a_moving_crop(tmp_path: Path) -> None:
    scene = texture()
    source = write_video(tmp_path / "a.mkv", [np.roll(scene, 2 * index, axis=1) for index in range(6)])
    centres_T2 = np.stack([50 + 6.0 * np.arange(6), np.full(6, 60.0)], axis=1)
    region = follow(centres_T2, np.ones(6), side_px=64, min_likelihood=0.5, smooth=1)
    reader = extract(source, region, FrameSize(64, 64))
    compute_flow(reader.path, tmp_path / "flow.zip", rule=FlowRule("dis_medium", 8.0), jpeg_quality=None)
    flow = FlowReader(tmp_path / "flow.zip").read(np.arange(5))
    assert np.median(flow[..., 0]) == pytest.approx(2.0, abs=0.15)  # of the scene, not 2 - 6
    assert np.median(flow[..., 1]) == pytest.approx(0.0, abs=0.1)
