"""A video file to a frame store, frame by frame: memory does not grow with its length."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from av.video.reformatter import VideoReformatter

from kineflow.video.decode import DecodedFrame
from kineflow.video.frame_store import Scaling, writing_frames
from kineflow.video.jpeg import encode_frame
from kineflow.video.roi import Cutter, Region, cutter
from kineflow.video.sampling import PlanError, VideoLength, frames_to_extract, plan_sampling

# Rises whenever the same video and params would give other pixels or another file; guarded by a golden test.
CODE_VERSION = 3


@dataclass(frozen=True)
class FrameSize:
    """How large frames are extracted: either both sides, or the short one with the video's own shape."""

    height_px: int | None = None
    width_px: int | None = None
    short_side_px: int | None = None

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels for a video of this size; a side that follows from the other one is even."""
        if self.height_px is not None and self.width_px is not None:
            return self.height_px, self.width_px
        if self.short_side_px is None:
            raise ValueError("give either height_px and width_px, or short_side_px")
        long_px = max(2, 2 * round(self.short_side_px * max(height, width) / min(height, width) / 2))
        if height == width:
            return self.short_side_px, self.short_side_px
        return (self.short_side_px, long_px) if height < width else (long_px, self.short_side_px)


def extract_frames(
    source: Path,
    target: Path,
    *,
    fps: float,
    size: FrameSize,
    jpeg_quality: int,
    region: Region | None = None,
    length: VideoLength | None = None,
    enough: Callable[[int], bool] | None = None,
) -> int:
    """Write the frame store of the video `source` to `target`.

    Args:
        fps: extracted frames per second, chosen by time (see `resample`).
        size: of the frames, after the video's rotation.
        jpeg_quality: 1 to 100.
        region: what is looked at; None for the whole frame.
        length: what `probe` found; with it, frames that are not extracted are left undecoded where that is safe. The
            store is the same.
        enough: asked after each frame, with their number: whether to leave out the rest; for a sample.

    Returns:
        the number of extracted frames.

    Raises:
        DecodeError: the video cannot be read, has no frames, or breaks midway.
        DataError: the region does not lie in the video, or ends before it does.
    """
    plan = None if length is None else plan_sampling(source, fps=fps, length=length)
    write = partial(_write_all, target=target, fps=fps, size=size, quality=jpeg_quality, region=region, enough=enough)
    if plan is not None:
        with suppress(PlanError):
            return write(frames_to_extract(source, fps=fps, plan=plan))
    return write(frames_to_extract(source, fps=fps, plan=None))


def _write_all(
    frames: Iterator[DecodedFrame],
    target: Path,
    *,
    fps: float,
    size: FrameSize,
    quality: int,
    region: Region | None,
    enough: Callable[[int], bool] | None,
) -> int:
    first = next(frames)
    cut = _cutter(first, size, region)
    scaler = VideoReformatter()
    jpeg, jpeg_of = b"", -1
    scaling = Scaling(cut.shown_height, cut.shown_width, cut.scaled_height, cut.scaled_width)
    store = writing_frames(target, fps=fps, height=cut.height, width=cut.width, quality=quality, scaling=scaling)
    with store as writer:
        for frame in chain([first], frames):
            corner = cut.corner(frame.index)
            if frame.index != jpeg_of:  # else it is repeated
                jpeg_of = frame.index
                jpeg = encode_frame(
                    frame.image,
                    scaler,
                    height=cut.scaled_height,
                    width=cut.scaled_width,
                    rotation_deg=frame.rotation_deg,
                    quality=quality,
                    window=None if region is None else (*corner, cut.width, cut.height),
                )
            writer.append(jpeg, source_frame=frame.index, timestamp_sec=frame.timestamp_sec, corner_xy=corner)
            if enough is not None and enough(len(writer)):
                break
        return len(writer)


def _cutter(first: DecodedFrame, size: FrameSize, region: Region | None) -> Cutter:
    height, width = first.image.height, first.image.width
    if first.rotation_deg in (90, 270):
        height, width = width, height
    looked_at = (height, width) if region is None else (region.height_px, region.width_px)
    out_height, out_width = size.of(*looked_at)
    return cutter(region, height=out_height, width=out_width, shown_height=height, shown_width=width)
