from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kineflow.errors import DecodeError
from kineflow.video.extract import CODE_VERSION, FrameSize, extract_frames
from kineflow.video.frame_store import FrameReader
from kineflow.video.probe import probe

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210), "grey": (128, 128, 128)}

# Per CODE_VERSION of extraction: mean colour, and mean step to the right and down, of two frames of the video below.
# Where this fails, the same video gives other frames: raise CODE_VERSION in kineflow/video/extract.py and add its line.
GOLDEN = {
    3: {
        "colours": [[126.434, 124.953, 119.815], [26.554, 27.988, 27.121], [28.11, 28.494, 27.795]],
        "source_frames": [0, 1, 3, 5, 6, 8, 10],
    }
}


def write_quarters(path: Path, *, num_frames: int = 12, height: int = 48, width: int = 80, codec: str = "h264") -> None:
    """Quarters of one colour each (red and green above blue and grey), with a ramp that brightens with time."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(COLOURS.values()):
        rows = slice(0, height // 2) if index < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if index % 2 == 0 else slice(width // 2, width)
        image[rows, columns] = colour
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(12))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": "10"} if codec == "h264" else {"qscale": "1"}
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.clip(image.astype(int) + 3 * index, 0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def centres(frame: np.ndarray) -> dict[str, tuple[int, int, int]]:
    height, width = frame.shape[:2]
    points = [(height // 4, width // 4), (height // 4, 3 * width // 4)]
    points += [(3 * height // 4, width // 4), (3 * height // 4, 3 * width // 4)]
    return dict(zip(COLOURS, [tuple(frame[point].tolist()) for point in points], strict=True))


def extract(path: Path, **changes: object) -> FrameReader:
    options = {"fps": 12.0, "size": FrameSize(24, 40), "jpeg_quality": 95} | changes
    extract_frames(path, path.with_suffix(".zip"), **options)  # type: ignore[arg-type]
    return FrameReader(path.with_suffix(".zip"))


def test_pixels_keep_their_place_and_colour(tmp_path: Path) -> None:
    write_quarters(tmp_path / "a.mp4")
    reader = extract(tmp_path / "a.mp4")
    assert (reader.num_frames, reader.height, reader.width) == (12, 24, 40)
    for name, colour in centres(reader.read([0])[0]).items():
        np.testing.assert_allclose(colour, COLOURS[name], atol=6)


@pytest.mark.parametrize("size", [FrameSize(48, 80), FrameSize(24, 40), FrameSize(96, 160), FrameSize(31, 53)])
def test_colours_are_those_of_ffmpegs_own_rgb(tmp_path: Path, size: FrameSize) -> None:
    write_quarters(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        wanted = centres(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    found = centres(extract(tmp_path / "a.mp4", size=size).read([0])[0])
    for name in COLOURS:
        np.testing.assert_allclose(found[name], wanted[name], atol=4)


@pytest.mark.parametrize(
    ("turn_deg", "order"),
    [
        (0, ["red", "green", "blue", "grey"]),
        (90, ["green", "grey", "red", "blue"]),  # counter-clockwise: the right column becomes the upper row
        (180, ["grey", "blue", "green", "red"]),
        (270, ["blue", "red", "grey", "green"]),
    ],
)
def test_rotation_in_the_metadata_is_honoured(tmp_path: Path, turn_deg: int, order: list[str]) -> None:
    write_quarters(tmp_path / "plain.mp4")
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        if turn_deg:
            stream.set_display_rotation(turn_deg)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    info = probe(tmp_path / "a.mp4")
    assert info.rotation_deg == turn_deg
    assert (info.height, info.width) == ((80, 48) if turn_deg in (90, 270) else (48, 80))
    reader = extract(tmp_path / "a.mp4", size=FrameSize(short_side_px=24))
    assert (reader.height, reader.width) == ((40, 24) if turn_deg in (90, 270) else (24, 40))
    found = list(centres(reader.read([0])[0]).values())
    for colour, name in zip(found, order, strict=True):
        np.testing.assert_allclose(colour, COLOURS[name], atol=6)


def test_resampled_frames_know_their_source(tmp_path: Path) -> None:
    write_quarters(tmp_path / "a.mp4")
    reader = extract(tmp_path / "a.mp4", fps=6.0)
    np.testing.assert_array_equal(reader.source_frames, [0, 2, 4, 6, 8, 10])
    np.testing.assert_allclose(reader.timestamps_sec, np.arange(6) / 6, atol=1e-9)
    brightness = reader.read(range(6)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(np.diff(brightness), 6, atol=1)  # 3 levels a source frame


@pytest.mark.parametrize(
    ("size", "video", "wanted"),
    [
        (FrameSize(96, 64), (1080, 1920), (96, 64)),
        (FrameSize(short_side_px=256), (1080, 1920), (256, 456)),  # 455.1, to even
        (FrameSize(short_side_px=256), (1920, 1080), (456, 256)),
        (FrameSize(short_side_px=99), (500, 500), (99, 99)),
    ],
)
def test_sizes(size: FrameSize, video: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert size.of(*video) == wanted


@pytest.mark.parametrize("size", [(37, 50), (36, 51), (31, 53), (36, 50)])
def test_frames_of_any_size_are_the_same_bytes_whatever_memory_held_before(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write_quarters(tmp_path / "a.mp4")
    stores = set()
    for value in range(10):
        memory = [np.full(size_bytes, value * 25, np.uint8) for size_bytes in (500, 1000, 2000, 4000)]
        del memory
        extract(tmp_path / "a.mp4", size=FrameSize(*size))
        stores.add((tmp_path / "a.zip").read_bytes())
    assert len(stores) == 1


def test_a_video_that_breaks_midway_is_no_store_of_its_first_half(tmp_path: Path) -> None:
    write_quarters(tmp_path / "a.avi", codec="mpeg4", num_frames=40)
    data = bytearray((tmp_path / "a.avi").read_bytes())
    (tmp_path / "a.avi").write_bytes(data[:200])
    with pytest.raises(DecodeError):
        extract(tmp_path / "a.avi")


def test_the_same_video_gives_the_frames_of_this_code_version(tmp_path: Path) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    texture = np.kron(canvas, np.ones((6, 5, 1), np.uint8))
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(12))  # lossless: nothing but our own steps counts
        stream.height, stream.width, stream.pix_fmt = 96, 100, "yuv420p"
        for index in range(12):
            image = np.ascontiguousarray(texture[:, index : index + 100])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    reader = extract(tmp_path / "a.mkv", fps=7.0, size=FrameSize(36, 50), jpeg_quality=90)
    frames = reader.read([0, 6]).astype(np.float64)
    across, down = np.abs(np.diff(frames, axis=2)), np.abs(np.diff(frames, axis=1))
    found = [frames.mean(axis=(0, 1, 2)), across.mean(axis=(0, 1, 2)), down.mean(axis=(0, 1, 2))]
    wanted = GOLDEN[CODE_VERSION]
    np.testing.assert_allclose(found, wanted["colours"], atol=0.02)
    assert reader.source_frames.tolist() == wanted["source_frames"]


def test_every_odd_clip_that_decodes_is_extracted_in_full(tmp_path: Path, shared_data: Path) -> None:
    for name in ("torchcodec/testsrc2_odd_height_and_width_vp9_10bit.mp4", "imageio/stent.swf", "decord/video_90.mov"):
        info = probe(shared_data / "odd_clips" / name)
        target = tmp_path / "odd.zip"
        num_frames = extract_frames(
            shared_data / "odd_clips" / name, target, fps=10.0, size=FrameSize(32, 32), jpeg_quality=90
        )
        assert num_frames == max(1, int(info.duration_sec * 10 + 0.5))
        assert FrameReader(target).read(range(num_frames)).std() > 5
