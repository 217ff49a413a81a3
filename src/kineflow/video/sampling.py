"""The frames of a video that are extracted, with no more decoded than that takes.

Where the packets alone tell when every frame is shown, the frames to extract are chosen before any is decoded. Then
those that no other frame refers to (most B-frames) are dropped undecoded unless they are extracted. The choice is the
same as that of decoding everything, and so are the pixels; where this is not certain, everything is decoded.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
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
    ticks = array("q", np.asarray(ticks)[order].tobytes())
    if len(ticks) != length.num_frames or (np.diff(np.asarray(ticks)) <= 0).any():
        return None
    times = [timeline.add(ticks[i], None, durations[item]) for i, item in enumerate(order.tolist())]
    end_sec = times[-1][0] + times[-1][1]
    if abs(end_sec - length.duration_sec) > 1e-9:
        return None
    shown = ((timestamp_sec, duration_sec, None) for timestamp_sec, duration_sec in times)
    chosen = array("q", (source_frame for source_frame, _ in resample(shown, fps=fps)))
    return SamplingPlan(chosen, ticks, array("d", (timestamp_sec for timestamp_sec, _ in times)))


def _decode_planned(source: Path, plan: SamplingPlan) -> Iterator[DecodedFrame]:
    """The frames of `plan`, dropping what nobody needs."""
    frame_of = {plan.ticks[source_frame]: source_frame for source_frame in plan.source_frames}
    queue = iter(plan.source_frames)
    wanted = next(queue)
    with open_video(source) as (container, stream):
        context = stream.codec_context
        try:
            for packet in container.demux(stream):
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in frame_of else "NONREF"
                for image in packet.decode():
                    source_frame = None if image.pts is None else frame_of.get(image.pts)
                    if source_frame is None:
                        continue
                    if source_frame != wanted:
                        raise PlanError(f"frame {wanted} wanted, {source_frame} decoded")
                    frame = DecodedFrame(
                        source_frame, plan.timestamps_sec[source_frame], 0.0, rotation_deg(image), image
                    )
                    while wanted == source_frame:
                        yield frame
                        following = next(queue, None)
                        if following is None:
                            return
                        wanted = following
        except (av.FFmpegError, ValueError, OverflowError) as err:
            raise PlanError(f"decoding fails before frame {wanted}") from err  # decoding everything says why
    raise PlanError(f"frame {wanted} wanted, the video ended")
