"""Images decoded straight at a fraction of their size, against the mean over areas of the whole image."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from kineflow.video.dct_scale import fewest_eighths, scaled_px
from kineflow.video.flow_store import FlowReader, FlowRule, writing_flow
from kineflow.video.frame_store import FrameReader, writing_frames

RULE = FlowRule("dis_fast", bound_px=8.0)


def smooth(height: int, width: int, *, seed: int = 0, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(size=(height, width, channels)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5)
    return cv2.normalize(blurred, None, 0.0, 1.0, cv2.NORM_MINMAX)


def frame_store(path: Path, images: list[np.ndarray]) -> FrameReader:
    height, width, _ = images[0].shape
    with writing_frames(path, fps=10.0, height=height, width=width, quality=95) as writer:
        for index, image in enumerate(images):
            jpeg = simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="420")
            writer.append(jpeg, source_frame=index, timestamp_sec=index / 10)
    return FrameReader(path)


def flow_store(path: Path, flows: list[np.ndarray], *, jpeg_quality: int | None = 95) -> FlowReader:
    height, width, _ = flows[0].shape
    with writing_flow(path, rule=RULE, fps=10.0, height=height, width=width, jpeg_quality=jpeg_quality) as writer:
        for flow in flows:
            writer.append(flow)
    return FlowReader(path)


@pytest.mark.parametrize(
    ("stored", "wanted", "eighths"),
    [
        ((256, 341), (112, 112), 4),  # 128 x 171
        ((256, 341), (128, 128), 4),
        ((256, 341), (129, 129), 5),  # 160 x 214
        ((96, 96), (27, 27), 3),  # 36 x 36
        ((240, 320), (30, 40), 1),
        ((240, 320), (30, 41), 2),
        ((96, 128), (64, 86), 6),  # 72 x 96
        ((90, 90), (112, 112), 8),  # never made larger
    ],
)
def test_the_smallest_size_that_has_the_pixels(stored, wanted, eighths):
    found = fewest_eighths(*stored, min_height=wanted[0], min_width=wanted[1])
    assert found == eighths


@pytest.mark.parametrize("eighths", range(1, 9))
@pytest.mark.parametrize("size", [(64, 96), (50, 75)])
def test_frames_decoded_small_are_means_over_areas(tmp_path, eighths, size):
    image = (smooth(*size) * 255).astype(np.uint8)
    reader = frame_store(tmp_path / "a.zip", [image])
    decoded = reader.read_scaled(0, eighths)
    assert decoded.shape == (scaled_px(size[0], eighths), scaled_px(size[1], eighths), 3)
    blocks = cv2.copyMakeBorder(image, 0, -size[0] % 8, 0, -size[1] % 8, cv2.BORDER_REPLICATE)
    scaled = (blocks.shape[1] * eighths // 8, blocks.shape[0] * eighths // 8)
    area = cv2.resize(blocks, scaled, interpolation=cv2.INTER_AREA)[: decoded.shape[0], : decoded.shape[1]]
    assert np.abs(decoded.astype(int) - area.astype(int)).mean() < 2.5
    if eighths == 8:
        np.testing.assert_array_equal(decoded, reader.read([0])[0])


@pytest.mark.parametrize("eighths", [1, 2, 4, 8])
def test_flow_decoded_small_keeps_x_and_y_apart(tmp_path, eighths):
    flow = smooth(40, 64, channels=2) * 10 - 5
    flow[:, :, 1] += 3  # y differs from x where they meet in the stored image
    reader = flow_store(tmp_path / "a.zip", [flow])
    codes = reader.read_codes(0, eighths)
    assert codes.shape == (40 * eighths // 8, 64 * eighths // 8, 2)
    pixels = (codes.astype(np.float32) - RULE.zero) * (RULE.bound_px / RULE.steps)
    area = cv2.resize(flow, codes.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(pixels - area).mean() < 0.06  # a step of the codes is 0.063
    assert np.abs(pixels - area).max() < 0.3


def test_codes_of_flow_are_the_displacements_that_are_read(tmp_path):
    flow = smooth(20, 30, channels=2) * 30 - 15  # some is beyond the bound
    reader = flow_store(tmp_path / "a.zip", [flow, -flow], jpeg_quality=None)
    for index in range(2):
        codes = reader.read_codes(index)
        pixels = (codes.astype(np.float32) - RULE.zero) * np.float32(RULE.bound_px / RULE.steps)
        np.testing.assert_allclose(pixels, reader.read([index])[0], atol=1e-5)


def test_only_flow_in_jpegs_of_whole_blocks_is_decoded_small(tmp_path):
    wanted = {"min_height": 10, "min_width": 10}
    flows = [np.zeros((40, 64, 2), np.float32)]
    assert flow_store(tmp_path / "a.zip", flows).fewest_eighths(**wanted) == 2
    assert flow_store(tmp_path / "b.zip", flows, jpeg_quality=None).fewest_eighths(**wanted) == 8
    flows = [np.zeros((44, 64, 2), np.float32)]
    assert flow_store(tmp_path / "c.zip", flows).fewest_eighths(**wanted) == 8
