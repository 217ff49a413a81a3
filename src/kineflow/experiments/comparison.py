"""Models compared under one protocol: the same folds and seeds, judged together by a bootstrap over groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kineflow.data.probabilities import Floats
from kineflow.evaluation.paired import GroupScores, Interval, draw_groups, group_scores
from kineflow.evaluation.predictions import Predictions
from kineflow.experiments.cost import Cost
from kineflow.experiments.space import Changes
from kineflow.experiments.trials import FoldScores, mean_of_known


@dataclass(frozen=True)
class Contender:
    """One line of a comparison.

    Args:
        stream: what it looks at; `fusion` looks at all that are enabled.
        changes: to the params that all share.
    """

    name: str
    stream: Literal["rgb", "flow", "pose", "fv", "fusion"]
    changes: Changes


@dataclass(frozen=True)
class Result:
    """What a contender came to.

    Args:
        scores: by metric, over the out-of-fold clips (or frames) of all folds at once, the mean over the seeds.
        by_seed: the same for each seed alone.
        by_fold: of each seed and fold; their mean is what metrics.json calls the cross-validated score.
        differences: from the first contender, on the same draws; None for itself.
        train_sec: of one fold, the mean over folds and seeds.
    """

    contender: Contender
    model: str
    scores: Mapping[str, GroupScores]
    by_seed: Mapping[str, tuple[float, ...]]
    by_fold: Mapping[str, tuple[float, ...]]
    differences: Mapping[str, Interval] | None
    cost: Cost
    train_sec: float


@dataclass(frozen=True)
class Trained:
    """The finished trainings of a contender: predictions and scores of each seed's folds."""

    contender: Contender
    model: str
    predictions: Sequence[Sequence[Predictions]]
    folds: Sequence[Sequence[FoldScores]]
    cost: Cost


def compare(trained: Sequence[Trained], group_of: Mapping[str, str], metrics: Sequence[str]) -> list[Result]:
    """Judge contenders on the same rows and the same draws of groups.

    Args:
        trained: the first is what the others are compared with.
        group_of: by video, its group.
        metrics: names such as video_top1_acc.
    """
    examples = [predicted.examples for predicted in trained[0].predictions[0]]
    truth = np.concatenate([part.truth for part in examples])
    videos = np.concatenate([part.rows["video_id"].to_numpy() for part in examples])
    _, group_N = np.unique([group_of[video] for video in videos], return_inverse=True)
    counts_DG = draw_groups(int(group_N.max()) + 1)
    results: list[Result] = []
    for one in trained:
        by_seed = [_scores(seed, truth, group_N, counts_DG, metrics) for seed in one.predictions]
        scores = {metric: _mean([seed[metric] for seed in by_seed]) for metric in metrics}
        folds = [fold for seed in one.folds for fold in seed]
        results.append(
            Result(
                contender=one.contender,
                model=one.model,
                scores=scores,
                by_seed={metric: tuple(seed[metric].value for seed in by_seed) for metric in metrics},
                by_fold={m: tuple(fold.scores[m] for fold in folds) for m in metrics if m in folds[0].scores},
                differences={m: scores[m].minus(results[0].scores[m]) for m in metrics} if results else None,
                cost=one.cost,
                train_sec=mean_of_known([fold.seconds for fold in folds]),
            )
        )
    return results


def _scores(
    folds: Sequence[Predictions],
    truth: Floats,
    group_N: NDArray[np.int64],
    counts_DG: NDArray[np.int64],
    metrics: Sequence[str],
) -> dict[str, GroupScores]:
    probs_NK = np.concatenate([predicted.probs_NK for predicted in folds])
    names = {metric: metric.partition("_")[2] for metric in metrics}
    return {metric: group_scores(probs_NK, truth, group_N, counts_DG, metric=name) for metric, name in names.items()}


def _mean(seeds: Sequence[GroupScores]) -> GroupScores:
    draws_D = np.mean([seed.draws_D for seed in seeds], axis=0)
    return GroupScores(mean_of_known([seed.value for seed in seeds]), draws_D)


def comparison_table(results: Sequence[Result]) -> pd.DataFrame:
    """One row for each contender: scores with intervals, differences from the first, cost."""
    rows = []
    for result in results:
        row: dict[str, object] = {"name": result.contender.name, "stream": result.contender.stream}
        row |= {"model": result.model}
        for metric, scores in result.scores.items():
            interval = scores.interval
            row |= {metric: scores.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            folds = np.array(result.by_fold.get(metric, (np.nan,)))
            known = folds[np.isfinite(folds)]
            spread = (known.mean(), known.std()) if len(known) else (np.nan, np.nan)
            row |= {f"{metric}_fold_mean": spread[0], f"{metric}_fold_std": spread[1]}
            difference = (result.differences or {}).get(metric, Interval(np.nan, np.nan, np.nan))
            row |= {f"{metric}_difference": difference.value}
            row |= {f"{metric}_difference_low": difference.low, f"{metric}_difference_high": difference.high}
        cost = result.cost
        row |= {"params_M": cost.num_params / 1e6, "macs_G": cost.macs / 1e9, "ms_per_clip": cost.ms_per_clip}
        row |= {"train_sec_per_fold": result.train_sec, "input_CTHW": "x".join(map(str, cost.input_CTHW or ()))}
        rows.append(row)
    return pd.DataFrame(rows)
