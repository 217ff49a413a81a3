"""Time ours against a bare reference in the same run: rounds interleaved, so that a busy machine slows both alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of each round.

    Args:
        name: what was compared, as it is printed.
        ours_sec, reference_sec: one number for each round, of the same rounds.
        num_items: done in each round, for items a second; None where that says nothing.
        unit: what an item is, in the plural.
    """

    name: str
    ours_sec: tuple[float, ...]
    reference_sec: tuple[float, ...]
    num_items: int | None = None
    unit: str = "items"

    @property
    def ratio(self) -> float:
        """How many times as fast as the reference: the median over rounds of reference / ours."""
        pairs = zip(self.reference_sec, self.ours_sec, strict=True)
        return statistics.median(reference / ours for reference, ours in pairs)

    @property
    def cells(self) -> tuple[str, ...]:
        """What, the median ratio, the median seconds of both, and the number of rounds."""
        ours, reference = statistics.median(self.ours_sec), statistics.median(self.reference_sec)
        rate = "" if self.num_items is None else f" ({self.num_items / ours:,.0f} {self.unit}/s)"
        return self.name, f"{self.ratio:.2f}", f"{_sec(ours)}{rate}", _sec(reference), str(len(self.ours_sec))

    def __str__(self) -> str:
        name, ratio, ours, reference, num_rounds = self.cells
        return f"{name:<58} {ratio:>6}x   ours {ours}, reference {reference}, median of {num_rounds}"


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    num_rounds: int = 5,
    max_sec: float = 10.0,
    num_items: int | None = None,
    unit: str = "items",
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Call both in turn, one warm-up aside, print the result and return it.

    Args:
        num_rounds: how often each is called; at least two, fewer than this if `max_sec` are over before.
        num_items: that one call does, for the rate that is printed.
        clock: what is measured; `time.process_time` for work on one thread of this process, which a busy machine
            then does not slow.
    """
    ours()
    reference()
    started = time.perf_counter()
    ours_sec: list[float] = []
    reference_sec: list[float] = []
    for round_index in range(num_rounds):
        pair = [(ours, ours_sec), (reference, reference_sec)]
        for function, seconds in pair if round_index % 2 == 0 else pair[::-1]:
            seconds.append(elapsed_sec(function, clock=clock))
        if round_index >= 1 and time.perf_counter() - started > max_sec:
            break
    comparison = Comparison(name, tuple(ours_sec), tuple(reference_sec), num_items=num_items, unit=unit)
    print(comparison, flush=True)
    return comparison


def elapsed_sec(function: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, by the clock on the wall unless told otherwise."""
    started = clock()
    function()
    return clock() - started


def _sec(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
