"""What a search tries: a range of values for each key of params.yaml, and how values are drawn from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from kineflow.store import digest

Changes = dict[str, Any]  # a value for each key of params.yaml that differs
DIGITS = 4  # significant ones of a drawn number: enough for a rate, short enough to read
RESAMPLED = 0.25  # of the values of a perturbed trial
MAX_REPEATS = 20  # draws of what was drawn before, in a row, after which a space counts as exhausted


@dataclass(frozen=True)
class Choice:
    """One of a few values; with `is_grid`, all of them, whatever is drawn for the other keys."""

    values: tuple[Any, ...]
    is_grid: bool = False

    def at(self, share: float) -> Any:
        """The value at `share`, in [0, 1), of the range."""
        return self.values[int(share * len(self.values))]

    def tidy(self, value: Any) -> Any:
        """The nearest value that may be tried."""
        return value

    def beside(self, value: Any, *, upwards: bool) -> Any:
        """A neighbour of `value`, or itself at an end."""
        index = self.values.index(value) + (1 if upwards else -1)
        return self.values[min(max(index, 0), len(self.values) - 1)]


@dataclass(frozen=True)
class Interval:
    """Numbers between `low` and `high`, drawn evenly, or evenly in their logarithm."""

    low: float
    high: float
    is_log: bool = False

    def at(self, share: float) -> float:
        """The value at `share`, in [0, 1), of the range."""
        if self.is_log:
            return self.tidy(math.exp(math.log(self.low) + share * math.log(self.high / self.low)))
        return self.tidy(self.low + share * (self.high - self.low))

    def tidy(self, value: Any) -> float:
        """The nearest value that may be tried, in few digits."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def beside(self, value: Any, *, upwards: bool) -> float:
        """A neighbour of `value`, a fifth of it away."""
        return self.tidy(value * (1.2 if upwards else 0.8))


@dataclass(frozen=True)
class Steps:
    """Whole numbers from `low` to `high`, both included, `step` apart."""

    low: int
    high: int
    step: int = 1

    @property
    def last(self) -> int:
        """The largest number that a step hits."""
        return self.low + (self.high - self.low) // self.step * self.step

    def at(self, share: float) -> int:
        """The value at `share`, in [0, 1), of the range."""
        return self.low + int(share * ((self.last - self.low) // self.step + 1)) * self.step

    def tidy(self, value: Any) -> int:
        """The nearest value that may be tried."""
        return min(max(self.low + round((value - self.low) / self.step) * self.step, self.low), self.last)

    def beside(self, value: Any, *, upwards: bool) -> int:
        """A neighbour of `value`, or itself at an end."""
        return self.tidy(value + (self.step if upwards else -self.step))


Range = Choice | Interval | Steps
Space = Mapping[str, Range]


def make_space(described: Mapping[str, Mapping[Any, Sequence[Any]]]) -> dict[str, Range]:
    """The space that params describe, such as `{"train.batch_size": {"choice": [8, 16]}}`, already checked."""
    return {key: _range(*kind_and_values) for key, tried in described.items() for kind_and_values in tried.items()}


def _range(kind: str, values: Sequence[Any]) -> Range:
    if kind in ("choice", "grid"):
        return Choice(tuple(values), is_grid=kind == "grid")
    if kind == "int_range":
        return Steps(*values)
    low, high = values
    return Interval(low, high, is_log=kind == "loguniform")


def tidied(space: Space, drawn: Mapping[str, Any]) -> Changes:
    """Values from elsewhere as they may be tried."""
    return {key: space[key].tidy(value) for key, value in drawn.items()}


def draw(space: Space, *, num_draws: int, seed: int) -> list[Changes]:
    """Draw different values of every key, and combine each draw with every value of the grids.

    Args:
        num_draws: fewer come where the space has fewer; without anything but grids there is one.
        seed: the same seed gives the same draws, and more of them begin with the same.
    """
    grids = {key: tried.values for key, tried in space.items() if isinstance(tried, Choice) and tried.is_grid}
    drawn = {key: tried for key, tried in space.items() if key not in grids}
    combined = [dict(zip(grids, values, strict=True)) for values in product(*grids.values())]
    return [{**changes, **grid} for changes in _draws(drawn, num_draws, seed) for grid in combined]


def _draws(space: Space, num_draws: int, seed: int) -> list[Changes]:
    if not space:
        return [{}]
    rng = np.random.default_rng(seed)
    found: dict[str, Changes] = {}
    repeats = 0
    while len(found) < num_draws and repeats < MAX_REPEATS:
        changes = {key: tried.at(rng.random()) for key, tried in space.items()}
        repeats = repeats + 1 if trial_key(changes) in found else 0
        found.setdefault(trial_key(changes), changes)
    return list(found.values())


def perturbed(space: Space, changes: Mapping[str, Any], rng: np.random.Generator) -> Changes:
    """The same values moved a little, each in a direction of its own; now and then one is drawn anew."""
    found = {}
    for key, tried in space.items():
        anew, upwards = rng.random() < RESAMPLED, bool(rng.random() < 0.5)
        found[key] = tried.at(rng.random()) if anew else tried.beside(changes[key], upwards=upwards)
    return found


def trial_key(changes: Mapping[str, Any]) -> str:
    """A short name of these changes, the same wherever they are tried."""
    return digest(changes=dict(changes))[:8]
