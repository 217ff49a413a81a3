"""What a video file holds, by decoding all of it: headers lie about frame counts and rates."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kineflow.errors import DecodeError
from kineflow.video.decode import DecodedFrame, decode_frames, frame_rate, open_video
from kineflow.video.fingerprint import FingerprintMaker


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """A decoded video, without its pixels.

    Args:
        container: FFmpeg's name of the format, for example `mov,mp4,m4a,3gp,3g2,mj2`.
        width, height: in pixels, after the rotation.
        rotation_deg: 0, 90, 180 or 270, counter-clockwise, from decoded to shown.
        fps_num, fps_den: what the container states; where it states nothing, frames over seconds.
        variable_rate: some frame is shown noticeably longer than another (the last one aside).
        num_frames: decoded.
        num_corrupt_frames: of these, where the decoder patched over damage; frames that follow may show it too, up to
            the next key frame.
        duration_sec: from the first frame's start to the last one's end.
        timestamps_sec: float64 (num_frames,), from the first frame, as `ffprobe -show_frames` prints them.
        fingerprint: int16 (samples, NUM_COEFFICIENTS), to know a copy of the video by; see `video.fingerprint`.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation_deg: int
    fps_num: int
    fps_den: int
    variable_rate: bool
    num_frames: int
    num_corrupt_frames: int
    duration_sec: float
    timestamps_sec: NDArray[np.float64]
    fingerprint: NDArray[np.int16]


def probe(path: Path) -> VideoInfo:
    """Decode all of `path`, on one thread, and say what it holds.

    Raises:
        DecodeError: it cannot be read, has no video stream, no frame, or breaks midway; the message is the reason,
            without the path, and the same on every machine.
    """
    with open_video(path) as (container, stream):
        first: DecodedFrame | None = None
        timestamps: list[float] = []
        fingerprint = FingerprintMaker()
        last_duration_sec = 0.0
        num_corrupt_frames = 0
        for frame in decode_frames(container, stream):
            first = first or frame
            timestamps.append(frame.timestamp_sec)
            last_duration_sec = frame.duration_sec
            num_corrupt_frames += frame.image.is_corrupt
            fingerprint.add(frame)
        if first is None:
            raise DecodeError("the video stream has no frames")
        timestamps_sec = np.array(timestamps)
        end_sec = float(timestamps_sec.max()) + last_duration_sec
        rate = frame_rate(stream) or _measured_rate(len(timestamps), end_sec)
        turned = first.rotation_deg in (90, 270)
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=first.image.height if turned else first.image.width,
            height=first.image.width if turned else first.image.height,
            rotation_deg=first.rotation_deg,
            fps_num=rate.numerator,
            fps_den=rate.denominator,
            variable_rate=_is_variable(timestamps_sec, tick_sec=float(stream.time_base or 0)),
            num_frames=len(timestamps),
            num_corrupt_frames=num_corrupt_frames,
            duration_sec=end_sec,
            timestamps_sec=timestamps_sec,
            fingerprint=fingerprint.finish(),
        )


def _measured_rate(num_frames: int, duration_sec: float) -> Fraction:
    if duration_sec <= 0:
        raise DecodeError("neither the container nor its timestamps say how long a frame is shown")
    return Fraction(num_frames / duration_sec).limit_denominator(1001)


def _is_variable(timestamps_sec: NDArray[np.float64], *, tick_sec: float) -> bool:
    intervals_sec = np.diff(timestamps_sec)
    if len(intervals_sec) < 2:
        return False
    median_sec = float(np.median(intervals_sec))
    rounding_sec = tick_sec if tick_sec < 0.1 * median_sec else 0.0  # a steady rate that fine ticks cannot express
    return bool(np.ptp(intervals_sec) > 0.02 * median_sec + 1.01 * rounding_sec)
