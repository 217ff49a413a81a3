"""Frames at a steady rate, chosen by time and never by count.

Extracted frame i is the source frame shown at i / fps after the first: the last one whose timestamp is at most
i / fps plus half a millisecond. Frames are repeated where the source is slower, and left out where it is faster.
"""

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

TOLERANCE_SEC = 0.0005  # timestamps are rounded to their container's ticks, mostly milliseconds

Image = TypeVar("Image")


def num_extracted_frames(duration_sec: float, fps: float) -> int:
    """How many frames a video of this duration gives: to the nearest whole one, and at least one."""
    return max(1, math.floor(duration_sec * fps + 0.5))


def resample(frames: Iterable[tuple[float, float, Image]], *, fps: float) -> Iterator[tuple[int, Image]]:
    """Choose the source frames to extract, while they are being decoded.

    Args:
        frames: (timestamp_sec, duration_sec, image) in decoded order; a timestamp that runs backwards counts as the
            latest so far. No more than two images are held.
        fps: extracted frames per second.

    Returns:
        (source frame, image) for extracted frame 0, 1, ...; `num_extracted_frames` of them in all.
    """
    current: tuple[int, Image] | None = None  # shown until the next timestamp
    held: tuple[int, Image] | None = None  # extracted, unless the video turns out to end before it
    now_sec = duration_sec = 0.0
    num_extracted = 0
    for source_frame, (timestamp_sec, length_sec, image) in enumerate(frames):
        now_sec, duration_sec = max(now_sec, timestamp_sec), length_sec
        while current is not None and num_extracted / fps + TOLERANCE_SEC < now_sec:
            if held is not None:
                yield held
            held = current
            num_extracted += 1
        current = (source_frame, image)
    if current is None:
        return
    wanted = num_extracted_frames(now_sec + duration_sec, fps)
    if held is not None and num_extracted <= wanted:
        yield held
    for _ in range(num_extracted, wanted):
        yield current
