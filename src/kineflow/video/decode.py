"""Every frame of a video file, in order, with its time. What does not decode is an error.

FFmpeg patches over what is damaged inside a frame; that frame says so (`DecodedFrame.image.is_corrupt`) where its
decoder notices, which those of H.264 and MPEG-4 do, and those of HEVC and VP9 mostly do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import Flags, InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kineflow.errors import DecodeError
from kineflow.video.timeline import Timeline

av.logging.set_level(av.logging.PANIC)  # what FFmpeg says on stderr names no file; its errors come as exceptions

RIGHT_ANGLES_DEG = (0, 90, 180, 270)


@dataclass(frozen=True)
class DecodedFrame:
    """One frame as the decoder gave it.

    Args:
        index: from 0, in decoded order.
        timestamp_sec: when it is shown, after the first frame.
        duration_sec: for how long, as the container says; 0.0 if it does not.
        rotation_deg: 0, 90, 180 or 270: to be turned counter-clockwise by this before it is looked at.
        image: in the decoder's own pixel format, not yet turned.
    """

    index: int
    timestamp_sec: float
    duration_sec: float
    rotation_deg: int
    image: VideoFrame


@contextmanager
def open_video(path: Path, *, num_threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `path` and its first video stream; only local files are followed, whatever a playlist names.

    Raises:
        DecodeError: it is not a file, not a video, has no video stream, or its codec is unknown.
    """
    if not path.is_file():
        raise DecodeError("the file is not there")
    try:
        uri, options = f"file:{path.absolute()}", {"protocol_whitelist": "file"}
        container = av.open(uri, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OverflowError) as err:
        raise DecodeError(f"the container cannot be read: {_reason(err)}") from err
    with container:
        container.flags &= ~Flags.gen_pts.value  # times that PyAV would have FFmpeg invent, unlike its own tools
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            raise DecodeError("the file has no video stream")
        stream = streams[0]
        if stream.codec_context is None:
            raise DecodeError("no decoder is known for its codec")
        if stream.time_base is None:
            raise DecodeError("the video stream has no time base")
        stream.codec_context.thread_count = num_threads
        yield container, stream


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the video's name before what is wrong with it; stages that quarantine it name it themselves."""
    try:
        yield
    except DecodeError as err:
        raise DecodeError(f"{path}: {err}") from err


def decode_frames(container: InputContainer, stream: VideoStream) -> Iterator[DecodedFrame]:
    """Decode all of `stream` from where `container` stands.

    Raises:
        DecodeError: decoding fails, at once or midway; it says after how many frames.
    """
    assert stream.time_base is not None  # open_video refuses it
    timeline = Timeline(stream.time_base, frame_rate(stream))
    index = 0
    try:
        for image in container.decode(stream):
            timestamp_sec, duration_sec = timeline.add(image.pts, image.dts, image.duration)
            yield DecodedFrame(index, timestamp_sec, duration_sec, rotation_deg(image), image)
            index += 1
    except (av.FFmpegError, ValueError, OverflowError) as err:
        raise DecodeError(f"decoding fails after {index} frames: {_reason(err)}") from err


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Frames per second that the container states; None if it does not."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return Fraction(rate) if rate else None


def rotation_deg(image: VideoFrame) -> int:
    """By how much `image` is to be turned, counter-clockwise: 0, 90, 180 or 270.

    Raises:
        DecodeError: its metadata ask for another angle.
    """
    angle = image.rotation % 360
    if angle not in RIGHT_ANGLES_DEG:
        raise DecodeError(f"its metadata ask for a rotation by {image.rotation} degrees; only right angles are read")
    return int(angle)


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _reason(err: Exception) -> str:
    return str(getattr(err, "strerror", None) or err).rstrip(".")
