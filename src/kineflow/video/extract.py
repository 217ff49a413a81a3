"""A video file to a frame store, frame by frame: memory does not grow with its length."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av.video.reformatter import VideoReformatter

from kineflow.errors import DecodeError
from kineflow.video.decode import DecodedFrame, decode_frames, open_video
from kineflow.video.frame_store import FrameWriter, writing_frames
from kineflow.video.jpeg import encode_frame
from kineflow.video.resample import resample

# Rises whenever the same video and params would give other pixels or another file; guarded by a golden test.
CODE_VERSION = 1


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


def extract_frames(source: Path, target: Path, *, fps: float, size: FrameSize, jpeg_quality: int) -> int:
    """Write the frame store of the video `source` to `target`.

    Args:
        fps: extracted frames per second, chosen by time (see `resample`).
        size: of the frames, after the video's rotation.
        jpeg_quality: 1 to 100.

    Returns:
        the number of extracted frames.

    Raises:
        DecodeError: the video cannot be read, has no frames, or breaks midway.
    """
    with open_video(source) as (container, stream):
        decoded = decode_frames(container, stream)
        first = next(decoded, None)
        if first is None:
            raise DecodeError("the video stream has no frames")
        turned = first.rotation_deg in (90, 270)
        shape = (first.image.height, first.image.width)
        height, width = size.of(*(shape[::-1] if turned else shape))
        with writing_frames(target, fps=fps, height=height, width=width, quality=jpeg_quality) as writer:
            _write_all(first, decoded, writer, fps=fps, height=height, width=width, quality=jpeg_quality)
            return len(writer.source_frames)


def _write_all(
    first: DecodedFrame,
    rest: Iterator[DecodedFrame],
    writer: FrameWriter,
    *,
    fps: float,
    height: int,
    width: int,
    quality: int,
) -> None:
    def timed() -> Iterator[tuple[float, float, DecodedFrame]]:
        yield first.timestamp_sec, first.duration_sec, first
        for frame in rest:
            yield frame.timestamp_sec, frame.duration_sec, frame

    scaler = VideoReformatter()
    jpeg, jpeg_of = b"", -1
    for source_frame, frame in resample(timed(), fps=fps):
        if source_frame != jpeg_of:  # else it is repeated
            rotation_deg, jpeg_of = frame.rotation_deg, source_frame
            jpeg = encode_frame(
                frame.image, scaler, height=height, width=width, rotation_deg=rotation_deg, quality=quality
            )
        writer.append(jpeg, source_frame=source_frame, timestamp_sec=frame.timestamp_sec)
