"""`kineflow compare`: models, patches of params or streams, on the same folds and seeds, into one table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kineflow.atomic import write_text
from kineflow.errors import ParamsError, ServiceError
from kineflow.evaluation.fusion import fit_fusion
from kineflow.evaluation.metrics import class_table, metric_names, scores
from kineflow.evaluation.paired import LEVEL, NUM_DRAWS
from kineflow.evaluation.predictions import Predictions, join_folds
from kineflow.experiments.compare_report import CompareReport, write_compare_report
from kineflow.experiments.comparison import Contender, Result, Trained, compare, comparison_table
from kineflow.experiments.cost import Cost, network_cost, sum_of, timed
from kineflow.experiments.pages import made_folder
from kineflow.experiments.recorder import write_comparison
from kineflow.experiments.trials import FoldScores
from kineflow.params import Params, StreamName
from kineflow.stages.folds.fisher import fit_jobs
from kineflow.stages.folds.fisher_job import MODEL_NAME, FisherJob
from kineflow.stages.folds.networks import resources_of
from kineflow.stages.stage import StageReport
from kineflow.store import digest, home
from kineflow.studies.contenders import FUSION, contenders, parts_of_fusion
from kineflow.studies.cross_validation import CrossValidation, cross_validation
from kineflow.studies.fisher_cost import fisher_cost
from kineflow.training.folds import train_jobs
from kineflow.training.job import Job

REPORTS = Path("reports/compare")
NUM_TOP = 3  # the theses' tables have top-1 and top-3


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to.

    Args:
        folder: of compare.csv, compare.json and compare.html.
        note: what the user should know, such as that MLflow is out of reach.
    """

    results: tuple[Result, ...]
    metric: str
    folder: Path
    note: str | None = None


def run_compare(
    params: Params,
    names: Sequence[str],
    *,
    stream: StreamName,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    metric: str | None = None,
    out: Path | None = None,
) -> Outcome:
    """Train what is not trained yet, score everything on the same validation clips, and write the table.

    Args:
        names: see `contenders`; the others are compared with the first.
        stream: of models and patches.
        metric: that the figures show; by default promotion.metric.
        out: the folder to write; by default reports/compare.

    Raises:
        ParamsError: a name, key, metric or folder that cannot be, before anything is trained.
    """
    known = metric_names(params.task, params.labels)
    if metric not in (None, *known):
        raise ParamsError(f"--metric {metric}: task {params.task} has {', '.join(known)}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ParamsError("--seeds wants whole numbers from 0, each of them once, such as 0,1,2")
    listed = contenders(params, names, stream, shared)
    folder = made_folder(out or REPORTS)
    validation = cross_validation(params, stream)
    parts = [one for one in listed if one.stream != FUSION]
    if len(parts) < len(listed):
        named = {one.name for one in parts}
        parts += [one for one in parts_of_fusion(params, shared) if one.name not in named]
    trained = _train(parts, seeds, validation)
    for one in listed:
        if one.stream == FUSION:
            trained[one.name] = _fused(one, [trained[name] for name in params.streams.enabled], validation)
    metrics = list(known)
    if (params.task, params.labels) == ("clip", "exclusive") and len(validation.dataset.classes) > NUM_TOP:
        metrics.insert(1, "video_top3_acc")
    compared = [trained[one.name] for one in listed]
    results = tuple(compare(compared, validation.dataset.groups, metrics))
    source = CompareReport(
        data_name=params.data.name,
        metric=metric or params.promotion.metric,
        seeds=tuple(seeds),
        num_folds=len(validation.rows),
        num_groups=len({validation.dataset.groups[item.video_id] for item in validation.dataset.development}),
        results=results,
    )
    documents = _write(folder, source)
    by_seed = [(one.contender, dict(zip(seeds, one.folds, strict=True))) for one in compared]
    shown = {"streams": json.dumps(source.streams), "metric": source.metric, "seeds": json.dumps(list(seeds))}
    shown |= {"fusion": params.evaluate.fusion} if any(one.stream == FUSION for one in listed) else {}
    try:
        write_comparison(f"{params.register_.model_name}-compare", shown, by_seed, documents)
    except ServiceError as err:
        return Outcome(results, source.metric, folder, note=str(err))
    return Outcome(results, source.metric, folder)


def _train(parts: Sequence[Contender], seeds: Sequence[int], validation: CrossValidation) -> dict[str, Trained]:
    """Train every contender but the fusion: networks first, as many folds at once as there is room for."""
    jobs = {one.name: [_jobs(one, seed, validation) for seed in seeds] for one in parts}
    found = {job.key: job for of_seeds in jobs.values() for of_seed in of_seeds for job in of_seed}
    networks = [job for job in found.values() if isinstance(job, Job)]
    fishers = [job for job in found.values() if isinstance(job, FisherJob)]
    resources = resources_of(validation.params.train)
    folders, num_skipped = train_jobs(networks, home(), resources, label="compare", say=_say)
    num_skipped += fit_jobs(fishers, StageReport("compare"))
    folders |= {job.key: job.folder for job in fishers}
    _say(f"{len(folders)} trainings, {num_skipped} of them already there")
    firsts = [jobs[one.name][0][0] for one in parts]
    costs = timed([network_cost(job) if isinstance(job, Job) else fisher_cost(job) for job in firsts])
    return {
        one.name: _trained(one, jobs[one.name], folders, validation, cost)
        for one, cost in zip(parts, costs, strict=True)
    }


def _say(line: str) -> None:
    print(f"compare: {line}", flush=True)


def _jobs(contender: Contender, seed: int, validation: CrossValidation) -> list[Job] | list[FisherJob]:
    """Of one seed, named for people."""
    assert contender.stream != FUSION
    of_stream, changes = replace(validation, stream=contender.stream), {**contender.changes, "seed": seed}
    named = f"{contender.name}, seed {seed}, fold"
    if contender.stream == "fv":
        return [replace(job, name=f"{named} {job.fold}") for job in of_stream.fisher_jobs(changes)]
    return [replace(job, name=f"{named} {job.fold}") for job in of_stream.jobs(changes)]


def _trained(
    contender: Contender,
    jobs: Sequence[Sequence[Job | FisherJob]],
    folders: Mapping[str, Path],
    validation: CrossValidation,
    cost: Cost,
) -> Trained:
    first = jobs[0][0]
    return Trained(
        contender,
        first.model.name if isinstance(first, Job) else MODEL_NAME,
        [[validation.predictions(job, folders[job.key]) for job in of_seed] for of_seed in jobs],
        [[validation.score(job, folders[job.key]) for job in of_seed] for of_seed in jobs],
        cost,
    )


def _fused(contender: Contender, parts: Sequence[Trained], validation: CrossValidation) -> Trained:
    """The fusion of streams, each fold by weights that its groups had no say in; it costs what they cost together."""
    predictions, folds = [], []
    for seed in range(len(parts[0].predictions)):
        of_seed = _fuse_seed([part.predictions[seed] for part in parts], parts, validation)
        predictions.append(of_seed)
        below = zip(*(part.folds[seed] for part in parts), strict=True)
        folds.append([_score_fused(one, fused) for one, fused in zip(below, of_seed, strict=True)])
    model = " + ".join(part.model for part in parts)
    return Trained(contender, model, predictions, folds, sum_of([part.cost for part in parts]))


def _fuse_seed(
    folds_of_parts: Sequence[Sequence[Predictions]], parts: Sequence[Trained], validation: CrossValidation
) -> list[Predictions]:
    streams = [
        replace(join_folds(of_part), name=part.contender.name)
        for of_part, part in zip(folds_of_parts, parts, strict=True)
    ]
    groups_N = streams[0].examples.rows["video_id"].map(validation.dataset.groups).to_numpy(dtype=object)
    fused = fit_fusion(streams, groups_N, rule=validation.params.evaluate.fusion).out_of_fold
    examples = [of_fold.examples for of_fold in folds_of_parts[0]]
    bounds = np.cumsum([len(one.rows) for one in examples])[:-1]
    return [
        Predictions(FUSION, one, probs) for one, probs in zip(examples, np.split(fused.probs_NK, bounds), strict=True)
    ]


def _score_fused(below: Sequence[FoldScores], fused: Predictions) -> FoldScores:
    examples = fused.examples
    return FoldScores(
        fold=below[0].fold,
        job_key=digest(fused=[one.job_key for one in below]),
        scores=scores(fused.probs_NK, examples.truth, task=examples.task),
        classes=tuple(class_table(fused.probs_NK, examples.truth, examples.classes)),
        seconds=sum(one.seconds for one in below),
        best_epoch=None,
    )


def _write(folder: Path, source: CompareReport) -> list[Path]:
    table = comparison_table(source.results)
    csv, values_json, report = (folder / f"compare.{suffix}" for suffix in ("csv", "json", "html"))
    write_text(csv, table.to_csv(index=False, float_format="%.6g"))
    values = {
        "data": source.data_name,
        "streams": source.streams,
        "metric": source.metric,
        "seeds": list(source.seeds),
        "folds": source.num_folds,
        "groups": source.num_groups,
        "bootstrap": {"draws": NUM_DRAWS, "level": LEVEL, "of": "groups"},
        "measured_on": source.measured_on,
        "rows": json.loads(table.to_json(orient="records")),
        "changes": {result.contender.name: result.contender.changes for result in source.results},
    }
    write_text(values_json, json.dumps(values, indent=1) + "\n")
    write_compare_report(report, source)
    return [csv, values_json, report]
