"""Dropping what is not extracted changes nothing: the same bytes as decoding everything, on videos of every kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st

from kineflow.video import sampling
from kineflow.video.decode import open_video
from kineflow.video.extract import FrameSize, extract_frames
from kineflow.video.frame_store import FrameReader
from kineflow.video.probe import probe
from kineflow.video.sampling import VideoLength, plan_sampling

TICK = Fraction(1, 1000)


def write_video(
    path: Path, *, times_ms: list[int], codec: str = "h264", num_b_frames: int = 2, gop: int = 12, cut_ms: int = 0
) -> None:
    """Noise that differs from frame to frame; what is shown before `cut_ms` is hidden by an edit list (MP4)."""
    noise = np.random.default_rng(len(times_ms))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        stream.codec_context.gop_size = gop
        stream.options = {"preset": "ultrafast", "b-adapt": "0", "b-pyramid": "normal"} if codec == "h264" else {}
        stream.options |= {"bf": str(num_b_frames)}
        packets = []
        for index, time_ms in enumerate(times_ms):
            image = np.kron(noise.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            frame = av.VideoFrame.from_ndarray(np.roll(image, index, axis=1), format="rgb24")
            frame.pts, frame.time_base = time_ms, TICK
            packets += stream.encode(frame)
        for packet in packets + stream.encode(None):
            if cut_ms:
                ticks = round(Fraction(cut_ms, 1000) / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            container.mux(packet)


def stores(path: Path, *, fps: float) -> tuple[bytes, bytes]:
    """What decoding everything gives, and what dropping gives."""
    info = probe(path)
    length = VideoLength(info.num_frames, info.duration_sec)
    size = FrameSize(24, 32)
    extract_frames(path, path.with_suffix(".all"), fps=fps, size=size, jpeg_quality=90)
    extract_frames(path, path.with_suffix(".some"), fps=fps, size=size, jpeg_quality=90, length=length)
    return path.with_suffix(".all").read_bytes(), path.with_suffix(".some").read_bytes()


@settings(max_examples=150, deadline=None)
@given(
    gaps_ms=st.lists(st.sampled_from([10, 17, 33, 40, 41, 120, 400]), min_size=1, max_size=40),
    container=st.sampled_from(["mp4", "mkv", "avi"]),
    codec=st.sampled_from(["h264", "mpeg4"]),
    num_b_frames=st.integers(0, 3),
    gop=st.sampled_from([1, 5, 12, 250]),
    cut=st.sampled_from([0.0, 0.0, 0.3]),
    fps=st.sampled_from([1.0, 5.0, 7.3, 10.0, 29.97, 60.0]),
)
def test_dropping_gives_the_bytes_of_decoding_everything(
    tmp_path_factory: pytest.TempPathFactory,
    gaps_ms: list[int],
    container: str,
    codec: str,
    num_b_frames: int,
    gop: int,
    cut: float,
    fps: float,
) -> None:
    path = tmp_path_factory.mktemp("sampling") / f"a.{container}"
    times_ms = np.cumsum([0, *(gaps_ms if container != "avi" else [40] * len(gaps_ms))]).tolist()
    cut_ms = int(cut * times_ms[-1]) if container == "mp4" else 0
    write_video(path, times_ms=times_ms, codec=codec, num_b_frames=num_b_frames, gop=gop, cut_ms=cut_ms)
    everything, dropping = stores(path, fps=fps)
    assert everything == dropping


class CountingPacket:
    """A packet that notes how many frames come out of it."""

    def __init__(self, packet: Packet, counts: list[int]) -> None:
        self._packet, self._counts = packet, counts

    def __getattr__(self, name: str) -> object:
        return getattr(self._packet, name)

    def decode(self) -> list[VideoFrame]:
        images: list[VideoFrame] = self._packet.decode()
        self._counts.append(len(images))
        return images


class CountingContainer:
    """A container whose packets are counted."""

    def __init__(self, container: InputContainer, counts: list[int]) -> None:
        self._container, self._counts = container, counts

    def demux(self, stream: VideoStream) -> Iterator[CountingPacket]:
        return (CountingPacket(packet, self._counts) for packet in self._container.demux(stream))


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_non_reference_frames_are_left_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, times_ms=list(range(0, 2400, 40)), codec=codec)
    everything, dropping = stores(path, fps=2.5)
    assert everything == dropping
    plan = plan_sampling(path, fps=2.5, length=VideoLength(60, 2.4))
    counts: list[int] = []

    @contextmanager
    def counting(source: Path) -> Iterator[tuple[CountingContainer, VideoStream]]:
        with open_video(source) as (container, stream):
            yield CountingContainer(container, counts), stream

    monkeypatch.setattr(sampling, "open_video", counting)
    frames = [frame.index for frame in sampling.frames_to_extract(path, fps=2.5, plan=plan)]
    assert frames == [0, 10, 20, 30, 40, 50]
    assert 6 <= sum(counts) < 45  # of 60, and of the 51 up to the last one wanted


def test_an_edit_list_hides_frames_from_both_ways(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", times_ms=list(range(0, 2400, 40)), cut_ms=1000)
    info = probe(tmp_path / "a.mp4")
    assert info.num_frames == 35
    assert plan_sampling(tmp_path / "a.mp4", fps=5.0, length=VideoLength(35, info.duration_sec)) is not None
    everything, dropping = stores(tmp_path / "a.mp4", fps=5.0)
    assert everything == dropping
    np.testing.assert_array_equal(FrameReader(tmp_path / "a.some").source_frames, [0, 5, 10, 15, 20, 25, 30])


def test_there_is_no_plan_where_the_packets_and_the_decoder_disagree(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", times_ms=list(range(0, 400, 40)))
    info = probe(tmp_path / "a.mp4")
    for length in (VideoLength(9, info.duration_sec), VideoLength(10, info.duration_sec + 0.04)):
        assert plan_sampling(tmp_path / "a.mp4", fps=5.0, length=length) is None
    write_video(tmp_path / "b.avi", times_ms=list(range(0, 400, 40)), codec="mpeg4")
    info = probe(tmp_path / "b.avi")
    assert plan_sampling(tmp_path / "b.avi", fps=5.0, length=VideoLength(10, info.duration_sec)) is None  # no pts
