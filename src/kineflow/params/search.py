"""Params of a search: the keys that it varies, and how it picks the next trial."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, PositiveInt, model_validator

from kineflow.params.section import NetworkName, Section


class PruneParams(Section):
    """When a trial of a search ends early: successive halving (ASHA) over folds."""

    after_folds: PositiveInt  # a trial is first judged then, and again whenever that many times 1/keep are done
    keep: Annotated[float, Field(gt=0, lt=1)]  # this share of the trials goes on


Value = int | float | str | bool | None
RangeKind = Literal["choice", "grid", "uniform", "loguniform", "int_range"]


class SearchParams(Section):
    """What `kineflow search` tries: other values of keys that training reads, each scored by cross-validation."""

    stream: NetworkName  # whose training a trial is
    metric: str | None  # a trial's score, the mean over the folds; null: promotion.metric
    algorithm: Literal["grid", "random", "tpe", "pbt"]
    num_trials: PositiveInt | None  # of random and tpe; the population of pbt; null for grid
    num_generations: PositiveInt | None  # of pbt, else null
    prune: PruneParams | None  # null: every trial sees every fold
    space: dict[str, dict[RangeKind, list[Value]]]  # by key of params.yaml, what to try

    @model_validator(mode="after")
    def _together(self) -> Self:
        if not self.space:
            raise ValueError("space is empty; name a key and what to try, such as train.batch_size: {choice: [8, 16]}")
        for key, tried in self.space.items():
            _check_range(key, tried)
        kinds = {kind for tried in self.space.values() for kind in tried}
        if self.algorithm == "grid" and kinds != {"grid"}:
            raise ValueError("algorithm: grid tries every combination, so every key of space is a grid: [...]")
        if self.algorithm in ("tpe", "pbt") and "grid" in kinds:
            raise ValueError(f"algorithm: {self.algorithm} draws from every key of space; write choice, not grid")
        if (self.num_trials is None) != (self.algorithm == "grid"):
            raise ValueError("num_trials is null for algorithm: grid, which tries all, and a number for the others")
        if (self.num_generations is None) == (self.algorithm == "pbt"):
            raise ValueError("num_generations is a number for algorithm: pbt, and null for the others")
        if self.algorithm == "pbt" and self.prune is not None:
            raise ValueError("prune is null for algorithm: pbt, whose generations replace the worst trials")
        if self.algorithm == "pbt" and self.num_trials == 1:
            raise ValueError("num_trials is the population of algorithm: pbt, which needs at least 2")
        return self


def _check_range(key: str, tried: dict[RangeKind, list[Value]]) -> None:
    """Refuse, with a ValueError, what is no range of values for `key` of a search's space."""
    if len(tried) != 1:
        raise ValueError(f"space: {key} wants exactly one of {', '.join(get_args(RangeKind))}")
    ((kind, values),) = tried.items()
    where = f"space: {key}: {{{kind}: {values}}}"
    if kind in ("choice", "grid"):
        if not values or any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError(f"{where} wants values, each of them once")
        return
    is_int = kind == "int_range"
    numbers = [v for v in values if isinstance(v, int if is_int else int | float) and not isinstance(v, bool)]
    if len(numbers) != len(values) or len(values) not in ((2, 3) if is_int else (2,)):
        form = "whole numbers [low, high] or [low, high, step]" if is_int else "two numbers [low, high]"
        raise ValueError(f"{where} wants {form}; YAML takes 1e-4 for text, so write 1.0e-4")
    if not numbers[0] < numbers[1] or min(numbers[2:], default=1) < 1:
        raise ValueError(f"{where} is empty; low must be below high, and a step at least 1")
    if kind == "loguniform" and numbers[0] <= 0:
        raise ValueError(f"{where} wants a low above 0")
