"""The frames of a video that are extracted, with no more decoded than that takes.

Where the packets alone tell when every frame is shown, the frames to extract are chosen before any is decoded. Then
those that no other frame refers to (most B-frames) are dropped undecoded unless they are extracted. The choice is the
same as that of decoding everything, and so are the pixels; where this is not certain, everything is decoded.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import av
import numpy as np

from kineflow.errors import DecodeError
from kineflow.video.decode import DecodedFrame, decode_frames, frame_rate, open_video, rotation_deg
from kineflow.video.resample import resample
from kineflow.video.timeline import Timeline

DROPPING_CODECS = ("h264", "mpeg4")  # of both standards: a picture not marked as a reference is none. Not so in HEVC.


@dataclass(frozen=True)
class VideoLength:
    """What `probe` found by decoding all of a video."""

    num_frames: int
    duration_sec: float


@dataclass(frozen=True)
class SamplingPlan:
    """What to extract, chosen before decoding.

    Args:
        source_frames: which frame of the video each extracted frame is, in order; may repeat.
        ticks: presentation time of each of the video's frames, in the stream's time base, rising.
        timestamps_sec: of each of the video's frames, after the first.
    """

    source_frames: "array[int]"
    ticks: "array[int]"
    timestamps_sec: "array[float]"


class PlanError(Exception):
    """The decoder did not give the frames that the packets announced; decode everything instead."""


def frames_to_extract(source: Path, *, fps: float, plan: SamplingPlan | None) -> Iterator[DecodedFrame]:
    """One frame of `source` for each extracted frame, in order; a repeated one comes repeatedly.

    Args:
        fps: extracted frames per second, chosen by time (see `resample`).
        plan: of the same fps, from `plan_sampling`; None decodes everything.

    Raises:
        DecodeError: the video cannot be read, has no frames, or breaks midway.
        PlanError: the plan does not hold.
    """
    if plan is not None:
        yield from _decode_planned(source, plan)
        return
    with open_video(source) as (container, stream):
        decoded = ((frame.timestamp_sec, frame.duration_sec, frame) for frame in decode_frames(container, stream))
        is_empty = True
        for _, frame in resample(decoded, fps=fps):
            is_empty = False
            yield frame
    if is_empty:
        raise DecodeError("the video stream has no frames")


def plan_sampling(source: Path, *, fps: float, length: VideoLength) -> SamplingPlan | None:
    """Choose the frames to extract by reading the packets of `source`, without decoding.

    Args:
        length: what decoding all of it gave; the packets must agree, or there is no plan.

    Returns:
        None where frames cannot be dropped or the packets do not tell every frame's time.
    """
    with open_video(source) as (container, stream):
        if stream.codec_context.codec.canonical_name not in DROPPING_CODECS or stream.time_base is None:
            return None
        timeline = Timeline(stream.time_base, frame_rate(stream))
        ticks, durations = array("q"), array("q")
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:  # the end; or what an edit list cuts off
                    continue
                if packet.pts is None:
                    return None
                ticks.append(packet.pts)
                durations.append(packet.duration or 0)
        except (av.FFmpegError, ValueError, OverflowError):
            return None  # decoding will say why
    order = np.argsort(np.asarray(ticks), kind="stable")
    ticks, durations = (array("q", np.asarray(values)[order].tobytes()) for values in (ticks, durations))
    if len(ticks) != length.num_frames or (np.diff(np.asarray(ticks)) <= 0).any():
        return None
    timestamps_sec, durations_sec = array("d"), array("d")
    for tick, duration in zip(ticks, durations, strict=True):
        timestamp_sec, duration_sec = timeline.add(tick, None, duration)
        timestamps_sec.append(timestamp_sec)
        durations_sec.append(duration_sec)
    if abs(timestamps_sec[-1] + durations_sec[-1] - length.duration_sec) > 1e-9:
        return None
    shown = zip(timestamps_sec, durations_sec, repeat(None))
    chosen = array("q", (source_frame for source_frame, _ in resample(shown, fps=fps)))
    return SamplingPlan(chosen, ticks, timestamps_sec)


def _decode_planned(source: Path, plan: SamplingPlan) -> Iterator[DecodedFrame]:
    """The frames of `plan`, dropping what nobody needs."""
    is_wanted = bytearray(len(plan.ticks))
    for source_frame in plan.source_frames:
        is_wanted[source_frame] = True

    def wanted_frame(pts: int | None) -> int | None:
        """Which frame is shown at that tick, if it is extracted."""
        if pts is None:
            return None
        source_frame = bisect_left(plan.ticks, pts)
        found = source_frame < len(plan.ticks) and plan.ticks[source_frame] == pts and is_wanted[source_frame]
        return source_frame if found else None

    queue = iter(plan.source_frames)
    wanted = next(queue)
    with open_video(source) as (container, stream):
        context = stream.codec_context
        try:
            for packet in container.demux(stream):
                is_needed = packet.pts is None or wanted_frame(packet.pts) is not None
                context.skip_frame = "DEFAULT" if is_needed else "NONREF"
                for image in packet.decode():
                    decoded = wanted_frame(image.pts)
                    if decoded is None:
                        continue
                    if decoded != wanted:
                        raise PlanError(f"frame {wanted} wanted, {decoded} decoded")
                    frame = DecodedFrame(decoded, plan.timestamps_sec[decoded], 0.0, rotation_deg(image), image)
                    while wanted == decoded:
                        yield frame
                        following = next(queue, None)
                        if following is None:
                            return
                        wanted = following
        except (av.FFmpegError, ValueError, OverflowError) as err:
            raise PlanError(f"decoding fails before frame {wanted}") from err  # decoding everything says why
    raise PlanError(f"frame {wanted} wanted, the video ended")
