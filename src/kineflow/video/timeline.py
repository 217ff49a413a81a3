"""When each decoded frame is shown, counted from the first one.

Containers state presentation times (pts) and decoding times (dts), and either may be missing or run backwards
(AVI with B-frames). The choice between them is that of FFmpeg's `guess_correct_pts`, so that the times are those
which `ffprobe -show_frames` prints as `best_effort_timestamp_time`.
"""

from fractions import Fraction

from kineflow.errors import DecodeError


class Timeline:
    """Times of the frames of one stream; `add` them in the order in which they are decoded.

    Args:
        time_base: seconds of one tick.
        rate: frames per second that the container states, for frames without any time or duration; None if unknown.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self._time_base = time_base
        self._ticks_per_frame = None if not rate else max(1, round(1 / (rate * time_base)))
        self._first_ticks: int | None = None
        self._next_ticks: int | None = None  # where the last frame ends
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._num_faulty_pts = 0
        self._num_faulty_dts = 0

    def add(self, pts: int | None, dts: int | None, duration: int | None) -> tuple[float, float]:
        """Take the ticks of the next frame.

        Returns:
            when it is shown, in seconds after the first frame, and for how long (0.0 if nobody says).

        Raises:
            DecodeError: the frame has no time, and none follows from the frames before it.
        """
        ticks = self._best_effort(pts, dts)
        if ticks is None:
            ticks = 0 if self._first_ticks is None else self._next_ticks
        if ticks is None:
            raise DecodeError("frames have no timestamps and the container states no frame rate")
        length = duration or self._ticks_per_frame or 0
        if self._first_ticks is None:
            self._first_ticks = ticks
        self._next_ticks = ticks + length if length else None
        return self._seconds(ticks - self._first_ticks), self._seconds(length)

    def _seconds(self, ticks: int) -> float:
        return ticks * self._time_base.numerator / self._time_base.denominator

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._num_faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._num_faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        trust_pts = self._num_faulty_pts <= self._num_faulty_dts or dts is None
        return pts if trust_pts and pts is not None else dts
