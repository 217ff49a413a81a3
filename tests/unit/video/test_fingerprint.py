from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn

from kineflow.video.decode import decode_frames, open_video
from kineflow.video.fingerprint import (
    LAG,
    MAX_MOMENTS,
    NUM_COEFFICIENTS,
    NUM_WAVES,
    SIDE_PX,
    STEPS,
    FingerprintMaker,
    changes,
    find_moments,
)
from kineflow.video.probe import probe


def write_video(path: Path, images: list[NDArray[np.uint8]], *, ticks: list[int] | None = None, fps: int = 20) -> None:
    """A video of grey images, nearly without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "4"})
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = "yuv420p"
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts, frame.time_base = (ticks or range(len(images)))[i], Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def noise(number: int, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    small = np.random.default_rng(number).integers(0, 256, (6, 8), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_coefficients_are_those_of_scipy(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [noise(0)])
    with open_video(tmp_path / "a.mp4") as (container, stream):
        (frame,) = decode_frames(container, stream)
        luma = frame.image.reformat(format="yuv420p").to_ndarray()[:96]
        maker = FingerprintMaker()
        maker.add(frame)
    small = cv2.resize(luma, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float64)
    wanted = dctn(small, norm="ortho")[:NUM_WAVES, :NUM_WAVES].ravel()[1:]
    (found,) = maker.finish()
    np.testing.assert_allclose(found / STEPS, wanted, atol=0.5 / STEPS + 1e-3)


def test_a_sample_is_the_first_frame_at_its_time_or_after(tmp_path: Path) -> None:
    images = [noise(i) for i in range(4)]
    write_video(tmp_path / "a.mkv", images, ticks=[0, 2, 3, 9])  # 0, 0.1, 0.15 and 0.45 s
    found = probe(tmp_path / "a.mkv").fingerprint
    assert found.dtype == np.int16 and found.shape == (5, NUM_COEFFICIENTS)
    same = [[int(np.abs(a.astype(int) - b).max()) == 0 for b in found] for a in found]
    first, second, third = [True] + 4 * [False], [False, True] + 3 * [False], 2 * [False] + 3 * [True]
    assert same == [first, second, third, third, third]


def test_the_largest_coefficient_fits() -> None:
    """Half black, half white: the most that any wave can hold."""
    image = np.zeros((SIDE_PX, SIDE_PX))
    image[SIDE_PX // 2 :] = 255
    assert np.abs(dctn(image, norm="ortho").ravel()[1:]).max() * STEPS < np.iinfo(np.int16).max


@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "nv12", "gray", "yuv444p10le", "rgb24", "bgr0", "yuyv422"])
def test_every_pixel_format_gives_the_same(layout: str) -> None:
    grey = noise(1)
    image = av.VideoFrame.from_ndarray(np.repeat(grey[:, :, None], 3, axis=2), format="rgb24")
    found = []
    for wanted in ("gray", layout):
        maker = FingerprintMaker()
        frame = type("Frame", (), {"image": image.reformat(format=wanted), "timestamp_sec": 0.0, "rotation_deg": 0})
        maker.add(frame)  # type: ignore[arg-type]
        found.append(maker.finish()[0] / STEPS)
    first, second = found
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)  # a limited range only scales them
    assert cosine > 0.999


def test_moments_are_when_most_changes() -> None:
    fingerprint_TC = np.zeros((60, NUM_COEFFICIENTS), np.int16)
    fingerprint_TC[20:, 3] = 400  # 100 grey levels, once
    fingerprint_TC[40:, 5] = 200
    found = find_moments(fingerprint_TC)
    assert set(range(20 - LAG, 20)) & set(found.steps.tolist()) and set(range(40 - LAG, 40)) & set(found.steps.tolist())
    np.testing.assert_array_equal(found.changes, changes(fingerprint_TC)[found.steps])
    assert len(find_moments(np.zeros((60, NUM_COEFFICIENTS), np.int16)).steps) == 0
    assert len(find_moments(fingerprint_TC[:LAG]).steps) == 0
    wild_TC = np.random.default_rng(0).integers(-4000, 4000, (4000, NUM_COEFFICIENTS)).astype(np.int16)
    assert len(find_moments(wild_TC).steps) == MAX_MOMENTS
