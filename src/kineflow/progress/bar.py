"""The progress of long work in one line, with the time that is left at the present pace."""

import sys
import time


class Progress:
    """How far, how fast, how long still: one line that is redrawn on a terminal, now and then a line elsewhere."""

    def __init__(self, label: str, *, num_items: int, total_weight: float, unit: str, shown: bool = True) -> None:
        self._label = label
        self._num_items = num_items
        self._total_weight = total_weight
        self._unit = unit
        self._shown = shown
        self._on_terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._next_line_sec = 0.2 if self._on_terminal else 3.0
        self._num_done = 0
        self._done_weight = 0.0
        self._pace_from = (0.0, 0, 0.0)  # seconds, items and weight when the present pace began
        self._drawn = False

    def advance(self, weight: float) -> None:
        """One more item, of this weight, is done."""
        self._num_done += 1
        self._done_weight += weight
        elapsed_sec = time.monotonic() - self._started
        if not self._shown or elapsed_sec < self._next_line_sec:
            return
        self._next_line_sec = elapsed_sec + (0.2 if self._on_terminal else 10.0)
        self._drawn = True
        start, end = ("\r\x1b[K", "") if self._on_terminal else ("", "\n")
        print(start + self.line(elapsed_sec), end=end, flush=True)

    def change_pace(self) -> None:
        """From here on more workers are at it: what came before tells nothing about how long the rest will take."""
        elapsed_sec = time.monotonic() - self._started
        self._pace_from = (elapsed_sec, self._num_done, self._done_weight)
        self._next_line_sec = max(self._next_line_sec, elapsed_sec + 1.0)

    def line(self, elapsed_sec: float) -> str:
        """What is printed after `elapsed_sec`: items, rate, and the time left at the present pace."""
        from_sec, from_items, from_weight = self._pace_from
        paced_sec, paced_weight = elapsed_sec - from_sec, self._done_weight - from_weight
        rate = (self._num_done - from_items) / paced_sec if paced_sec > 0 else 0.0
        text = f"{self._label}: {self._num_done} of {self._num_items} {self._unit}, {rate:.3g}/s"
        if paced_weight <= 0:
            return text
        return f"{text}, {clock(paced_sec * (self._total_weight - self._done_weight) / paced_weight)} left"

    def close(self) -> None:
        """Leave the terminal's cursor at the start of an empty line."""
        if self._drawn and self._on_terminal:
            print("\r\x1b[K", end="", flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 0:02:10."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
