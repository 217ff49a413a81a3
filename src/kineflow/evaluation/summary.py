"""Everything that was scored, as one value; `metrics.json` and the small table are views of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kineflow.data.probabilities import Labels
from kineflow.evaluation.baselines import BaselineScores
from kineflow.evaluation.fusion import Fusion
from kineflow.evaluation.metrics import LOWER_IS_BETTER, FoldSummary, metric_names, over_folds
from kineflow.evaluation.predictions import Examples, Predictions

LEAK = 0.15  # metadata better than the class counts by more than this is worth a warning


@dataclass(frozen=True)
class Evaluation:
    """What was scored.

    Args:
        val: the rows of every fold's validation clips.
        test: the rows of the test clips, or None.
        cv: out-of-fold predictions by stream, in the order of reports.
        on_test: the release models' predictions of the test rows, by stream; empty without a test set.
        baselines: on the same rows.
        release: the stream that is released.
        fusion: how the streams are fused; None if there is one.
    """

    task: str
    classes: tuple[str, ...]
    val: Examples
    test: Examples | None
    cv: Mapping[str, Predictions]
    on_test: Mapping[str, Predictions]
    baselines: tuple[BaselineScores, ...]
    release: str
    fusion: Fusion | None

    @property
    def headline(self) -> str:
        """The metric that comes first."""
        return metric_names(self.task, self.labels)[0]

    @property
    def labels(self) -> Labels:
        """Whether the classes exclude each other."""
        return self.val.labels

    def cv_summary(self, stream: str) -> dict[str, FoldSummary]:
        """The metrics of one stream over the folds."""
        return over_folds(self.cv[stream].fold_scores())

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json.

        Keys task, labels, classes, cv, test (null without a test set), fusion (null of one stream), baselines. A
        baseline's metric has the key `test` beside mean, std and folds where there is a test set.
        """
        cv = {stream: _as_json(self.cv_summary(stream)) for stream in self.cv}
        test = {stream: _rounded(predicted.fold_scores()[0]) for stream, predicted in self.on_test.items()}
        baselines = {}
        for baseline in self.baselines:
            values = _as_json(over_folds(baseline.folds))
            for name, value in _rounded(baseline.test or {}).items():
                values[name]["test"] = value
            baselines[baseline.name] = values
        return {
            "task": self.task,
            "labels": self.labels,
            "classes": list(self.classes),
            "cv": cv,
            "test": test if self.test is not None else None,
            "fusion": None if self.fusion is None else _fusion_json(self.fusion),
            "baselines": baselines,
        }


@dataclass(frozen=True)
class SummaryRow:
    """One line of the small table: a stream or a baseline in the headline metric."""

    name: str
    is_baseline: bool
    mean: float | None
    std: float | None
    test: float | None

    @property
    def cells(self) -> tuple[str, str, str]:
        """Name, `mean ± std` and test score, ready to print."""
        spread = f"{self.mean:.3f} ± {self.std:.3f}" if self.mean is not None and self.std is not None else "-"
        return self.name, spread, "-" if self.test is None else f"{self.test:.3f}"


def summary_rows(metrics: Mapping[str, Any], metric: str | None = None) -> list[SummaryRow]:
    """The lines of the small final table: the streams in order, then the baselines.

    Args:
        metrics: the content of metrics.json.
        metric: by default the headline metric of the task.
    """
    metric = metric or metric_names(metrics["task"], metrics["labels"])[0]
    rows = []
    for stream, values in metrics["cv"].items():
        test = (metrics["test"] or {}).get(stream, {}).get(metric)
        rows.append(SummaryRow(stream, False, values[metric]["mean"], values[metric]["std"], test))
    for name, values in metrics["baselines"].items():
        if metric in values:
            value = values[metric]
            rows.append(SummaryRow(name, True, value["mean"], value["std"], value.get("test")))
    return rows


@dataclass(frozen=True)
class FusionPart:
    """What one stream is to the fusion, in the cross-validated headline metric.

    Args:
        weight: of test and release.
        least, most: the weight over the folds.
        alone: the score of the stream by itself.
        without: what the other streams score, fused by the same rule.
        lost: what the fusion scores more than `without`.
    """

    stream: str
    weight: float
    least: float
    most: float
    alone: float | None
    without: float | None
    lost: float | None


def fusion_parts(metrics: Mapping[str, Any]) -> list[FusionPart]:
    """One for each stream that is fused, in their order; none where there is no fusion."""
    metric = metric_names(metrics["task"], metrics["labels"])[0]
    parts = []
    for stream, values in (metrics["fusion"] or {"streams": {}})["streams"].items():
        fused, without = metrics["cv"]["fusion"][metric]["mean"], values["without"][metric]["mean"]
        lost = None if fused is None or without is None else fused - without
        weights = values["weight"], min(values["folds"]), max(values["folds"])
        parts.append(FusionPart(stream, *weights, metrics["cv"][stream][metric]["mean"], without, lost))
    return parts


def missed_most(parts: Sequence[FusionPart]) -> list[str]:
    """The streams without which the fusion loses most; none where it loses nothing without any one."""
    largest = max((part.lost for part in parts if part.lost is not None), default=0.0)
    return [part.stream for part in parts if part.lost == largest] if largest > 0 else []


def fusion_sentence(metrics: Mapping[str, Any]) -> str:
    """The streams' weights and what the fusion scores without each, on one line."""
    parts = fusion_parts(metrics)
    metric = metric_names(metrics["task"], metrics["labels"])[0]
    scored = ", ".join(
        f"{part.stream} {part.weight:.2f} (without it {'-' if part.without is None else f'{part.without:.3f}'})"
        for part in parts
    )
    missed = " or ".join(missed_most(parts))
    lost = f"most is lost without {missed}" if missed else "nothing is lost without any one"
    return f"fusion ({metrics['fusion']['rule']}) by {metric}: {scored}; {lost}"


def baseline_warnings(metrics: Mapping[str, Any], release: str) -> list[str]:
    """What the baselines say against the data or the model, by the cross-validated headline metric.

    One sentence for each baseline that the released stream does not beat, and one where metadata alone tell much
    more than the class counts.
    """
    metric = metric_names(metrics["task"], metrics["labels"])[0]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    model = metrics["cv"][release][metric]["mean"]
    meanings = {
        "majority": "the model has learnt nothing that the class counts do not say",
        "metadata": "labels can be told from duration and size without looking, so the data leak or the model fails",
        "hof": "a histogram of motion does at least as well, so the model is not worth its cost yet",
        "embedding": "a linear layer on single frames does at least as well, so the model makes nothing of time",
    }
    means = {name: row.get(metric, {}).get("mean") for name, row in metrics["baselines"].items()}
    found = [
        f"The baseline {name} scores {mean:.3f} and the released {release} {model:.3f} ({metric}): "
        f"{meanings.get(name, 'the model does not beat it')}."
        for name, mean in means.items()
        if mean is not None and model is not None and sign * mean >= sign * model
    ]
    majority, metadata = means.get("majority"), means.get("metadata")
    if majority is not None and metadata is not None and metadata - majority > LEAK:
        found.append(
            f"Metadata alone score {metadata:.3f}, the class counts {majority:.3f} ({metric}): part of the labels can "
            "be told from duration and size without looking, so scores on new recordings may be lower."
        )
    return found


def _as_json(summaries: Mapping[str, FoldSummary]) -> dict[str, dict[str, Any]]:
    return {name: summary.as_json() for name, summary in summaries.items()}


def _fusion_json(fusion: Fusion) -> dict[str, Any]:
    streams = {
        stream: {
            "weight": weight,
            "folds": [weights[stream] for weights in fusion.of_folds.values()],
            "without": _as_json(over_folds(fusion.without[stream].fold_scores())),
        }
        for stream, weight in fusion.weights.items()
    }
    return {"rule": fusion.rule, "streams": streams}


def _rounded(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if value == value else None for name, value in scores.items()}
