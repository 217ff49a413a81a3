"""Small pictures of some moments of a video, without decoding all that lies between them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image

from kineflow.video.decode import DecodedFrame, decode_frames, open_video, rotation_deg

SEEK_SEC = 2.0  # moments that are nearer to each other are decoded through


class _SeekError(Exception):
    """The video does not tell where it stands; decode it from its start."""


def thumbnails(path: Path, times_sec: Sequence[float], *, size_px: tuple[int, int]) -> list[Image.Image]:
    """The frame shown at each time after the first frame, or the last one, fitted into a size; one is held whole.

    Args:
        times_sec: in any order.
        size_px: width and height.

    Returns:
        RGB pictures in the order of `times_sec`.

    Raises:
        DecodeError: the video cannot be read, has no frames, or breaks before such a time.
    """
    order = sorted(range(len(times_sec)), key=times_sec.__getitem__)
    rising = [times_sec[index] for index in order]
    try:
        found = list(_sought(path, rising, size_px))
    except _SeekError:
        found = list(_decoded(path, rising, size_px))
    pictures = dict(zip(order, found, strict=False))
    return [pictures[index] for index in range(len(times_sec)) if index in pictures]


def last_shown_sec(path: Path) -> float:
    """When the last frame is shown, after the first one; from the packets where these say it.

    Raises:
        DecodeError: the video cannot be read.
    """
    with open_video(path) as (container, stream):
        try:
            packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
            ticks = [packet.pts for packet in packets]
        except (av.FFmpegError, ValueError, OverflowError):
            ticks = []
        known = [tick for tick in ticks if tick is not None]
        if ticks and len(known) == len(ticks) and stream.time_base is not None:
            return float((max(known) - min(known)) * stream.time_base)
    with open_video(path) as (container, stream):
        return max((frame.timestamp_sec for frame in decode_frames(container, stream)), default=0.0)


def _sought(path: Path, rising: Sequence[float], size_px: tuple[int, int]) -> Iterator[Image.Image]:
    """Key frame by key frame.

    Raises:
        _SeekError: a frame has no time, or a seek leads past what is sought.
    """
    with open_video(path) as (container, stream):
        frames = _timed_frames(container, stream, first_ticks=None)
        first = next(frames, None)
        if first is None:
            raise _SeekError
        first_ticks, shown = first.image.pts, first
        assert first_ticks is not None and stream.time_base is not None  # else there were no timed frames
        following = next(frames, None)
        for time_sec in rising:
            if following is not None and time_sec - shown.timestamp_sec > SEEK_SEC:
                container.seek(first_ticks + int(time_sec / stream.time_base), stream=stream)
                frames = _timed_frames(container, stream, first_ticks=first_ticks)
                landed = next(frames, None)
                if landed is None or landed.timestamp_sec > time_sec:
                    raise _SeekError
                shown, following = landed, next(frames, None)
            while following is not None and following.timestamp_sec <= time_sec:
                shown, following = following, next(frames, None)
            yield _thumbnail(shown, size_px)


def _timed_frames(container: InputContainer, stream: VideoStream, *, first_ticks: int | None) -> Iterator[DecodedFrame]:
    """Frames from where the container stands, by their own presentation times."""
    assert stream.time_base is not None  # open_video refuses it
    last_ticks = None
    try:
        for index, image in enumerate(container.decode(stream)):
            if image.pts is None or (last_ticks is not None and image.pts <= last_ticks):
                raise _SeekError
            first_ticks, last_ticks = image.pts if first_ticks is None else first_ticks, image.pts
            timestamp_sec = float((image.pts - first_ticks) * stream.time_base)
            yield DecodedFrame(index, timestamp_sec, 0.0, rotation_deg(image), image)
    except (av.FFmpegError, ValueError, OverflowError) as err:
        raise _SeekError from err  # decoding everything says why


def _decoded(path: Path, rising: Sequence[float], size_px: tuple[int, int]) -> Iterator[Image.Image]:
    """By decoding everything up to the last of the times."""
    left = list(rising)
    shown = None
    with open_video(path) as (container, stream):
        for frame in decode_frames(container, stream):
            while left and shown is not None and frame.timestamp_sec > left[0]:
                yield _thumbnail(shown, size_px)
                left.pop(0)
            shown = frame
            if not left:
                return
    for _ in left:
        if shown is not None:
            yield _thumbnail(shown, size_px)


def _thumbnail(frame: DecodedFrame, size_px: tuple[int, int]) -> Image.Image:
    image = np.rot90(frame.image.to_ndarray(format="rgb24"), frame.rotation_deg // 90)
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail(size_px)
    return picture
