"""`kineflow compare`: several models, or patches of params, on the same folds and seeds, into one table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kineflow.errors import ParamsError, ServiceError
from kineflow.evaluation.metrics import metric_names
from kineflow.evaluation.paired import LEVEL, NUM_DRAWS
from kineflow.experiments.compare_report import CompareReport, write_compare_report
from kineflow.experiments.comparison import Contender, Result, Trained, compare, comparison_table
from kineflow.experiments.cost import measure_cost
from kineflow.experiments.recorder import write_comparison
from kineflow.experiments.trials import FoldScores, mean_of_known
from kineflow.models.registry import find_model
from kineflow.params import NetworkName, Params
from kineflow.stages.changed_params import check_keys, read_patch, with_changes
from kineflow.stages.cross_validation import CrossValidation, cross_validation
from kineflow.stages.fold_training import resources_of
from kineflow.store import home
from kineflow.training.folds import train_jobs
from kineflow.training.job import Job

REPORTS = Path("reports/compare")
PRESENT = "present"  # names the params as they are
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


def contenders(params: Params, names: Sequence[str], stream: NetworkName, shared: Mapping[str, Any]) -> list[Contender]:
    """What the names stand for: models, files of patches, or `present` for the params as they are.

    A model comes with its own default options; everything else, `weights` too, is as the params say.

    Args:
        shared: changes that all of them get.

    Raises:
        ParamsError: a name stands for nothing, is there twice, or what it stands for cannot be.
    """
    found = []
    for name in names:
        if name == PRESENT:
            shown, own = name, {}
        elif name.endswith((".yaml", ".yml")):
            shown, own = Path(name).stem, read_patch(Path(name))
            check_keys(params, own, stream=stream, where=name)
        else:
            find_model(name)
            shown, own = name, {f"streams.{stream}.model": name, f"streams.{stream}.options": {}}
        changes = {**shared, **own}
        with_changes(params, changes, where=name)
        found.append(Contender(shown, changes))
    repeated = {one.name for i, one in enumerate(found) if one.name in {other.name for other in found[:i]}}
    if repeated:
        raise ParamsError(f"{sorted(repeated)[0]} is compared with itself; give each name once")
    return found


def run_compare(
    params: Params,
    names: Sequence[str],
    *,
    stream: NetworkName,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    metric: str | None = None,
    out: Path | None = None,
) -> Outcome:
    """Train what is not trained yet, score everything on the same validation clips, and write the table.

    Args:
        names: see `contenders`; the others are compared with the first.
        metric: that the figures show; by default promotion.metric.
        out: the folder to write; by default reports/compare.

    Raises:
        ParamsError: a name, key or metric that cannot be, before anything is trained.
    """
    if not params.streams[stream].enabled:
        raise ParamsError(f"--stream {stream} is not enabled under streams in params")
    known = metric_names(params.task, params.labels)
    if metric not in (None, *known):
        raise ParamsError(f"--metric {metric}: task {params.task} has {', '.join(known)}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ParamsError("--seeds wants whole numbers from 0, each of them once, such as 0,1,2")
    check_keys(params, shared, stream=stream, where="--set")
    listed = contenders(params, names, stream, shared)
    validation = cross_validation(params, stream)
    jobs = {one.name: [_jobs(one, seed, validation) for seed in seeds] for one in listed}
    folders = _train(params, [job for of_seeds in jobs.values() for of_seed in of_seeds for job in of_seed])
    metrics = list(known)
    if (params.task, params.labels) == ("clip", "exclusive") and len(validation.dataset.classes) > NUM_TOP:
        metrics.insert(1, "video_top3_acc")
    scored = {
        one.name: [[validation.score(job, folders[job.key]) for job in of_seed] for of_seed in jobs[one.name]]
        for one in listed
    }
    trained = [_trained(one, jobs[one.name], scored[one.name], folders, validation) for one in listed]
    results = tuple(compare(trained, validation.dataset.groups, metrics))
    folder = out or REPORTS
    source = CompareReport(
        data_name=params.data.name,
        stream=stream,
        metric=metric or params.promotion.metric,
        seeds=tuple(seeds),
        num_folds=len(validation.rows),
        num_groups=len({validation.dataset.groups[item.video_id] for item in validation.dataset.development}),
        results=results,
    )
    documents = _write(folder, source)
    by_seed = [(one, dict(zip(seeds, scored[one.name], strict=True))) for one in listed]
    shown = {"stream": stream, "metric": source.metric, "seeds": json.dumps(list(seeds))}
    try:
        write_comparison(f"{params.register_.model_name}-compare", shown, by_seed, documents)
    except ServiceError as err:
        return Outcome(results, source.metric, folder, note=str(err))
    return Outcome(results, source.metric, folder)


def _jobs(contender: Contender, seed: int, validation: CrossValidation) -> list[Job]:
    """Of one seed, named for people."""
    jobs = validation.jobs({**contender.changes, "seed": seed})
    return [replace(job, name=f"{contender.name}, seed {seed}, fold {job.fold}") for job in jobs]


def _train(params: Params, jobs: Sequence[Job]) -> dict[str, Path]:
    resources = resources_of(params.train)

    def say(line: str) -> None:
        print(f"compare: {line}", flush=True)

    folders, num_skipped = train_jobs(jobs, home(), resources, label="compare", say=say)
    print(f"compare: {len(folders)} trainings, {num_skipped} of them already there", flush=True)
    return folders


def _trained(
    contender: Contender,
    jobs: Sequence[Sequence[Job]],
    scored: Sequence[Sequence[FoldScores]],
    folders: Mapping[str, Path],
    validation: CrossValidation,
) -> Trained:
    return Trained(
        contender=contender,
        model=jobs[0][0].model.name,
        predictions=[[validation.predictions(job, folders[job.key]) for job in of_seed] for of_seed in jobs],
        fold_scores=[[fold.scores for fold in of_seed] for of_seed in scored],
        cost=measure_cost(jobs[0][0]),
        train_sec=mean_of_known([fold.seconds for of_seed in scored for fold in of_seed]),
    )


def _write(folder: Path, source: CompareReport) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table(source.results)
    csv, values_json, report = (folder / f"compare.{suffix}" for suffix in ("csv", "json", "html"))
    table.to_csv(csv, index=False, float_format="%.6g")
    cost = source.results[0].cost
    values = {
        "data": source.data_name,
        "stream": source.stream,
        "metric": source.metric,
        "seeds": list(source.seeds),
        "folds": source.num_folds,
        "groups": source.num_groups,
        "bootstrap": {"draws": NUM_DRAWS, "level": LEVEL, "of": "groups"},
        "measured_on": {"device": cost.device, "threads": cost.threads, "precision": cost.precision},
        "rows": json.loads(table.to_json(orient="records")),
        "changes": {result.contender.name: result.contender.changes for result in source.results},
    }
    values_json.write_text(json.dumps(values, indent=1) + "\n")
    write_compare_report(report, source)
    return [csv, values_json, report]
