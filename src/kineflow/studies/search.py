"""`kineflow search`: try other params for one stream, keep every trial, and write the winner as a patch."""

import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kineflow.atomic import write_text
from kineflow.errors import KineflowError, ParamsError
from kineflow.evaluation.metrics import metric_names
from kineflow.experiments.live import LiveTable
from kineflow.experiments.pages import made_folder
from kineflow.experiments.recorder import Recorder
from kineflow.experiments.search_report import SearchReport, write_search_report
from kineflow.experiments.space import make_space, trial_key
from kineflow.experiments.strategy import Halving, Strategy, max_num_trials
from kineflow.experiments.trial_worker import Work
from kineflow.experiments.trials import Trial, ranked, trials_table
from kineflow.experiments.tuning import Listener, Tried, search
from kineflow.models.registry import find_model
from kineflow.params import Params, SearchParams, as_json, parse_params
from kineflow.store import digest, home
from kineflow.studies.changed_params import check_keys, with_changes, write_patch
from kineflow.studies.cross_validation import CrossValidation, cross_validation, refuse_found_batches
from kineflow.studies.searched_clips import refuse_missing_negatives, refuse_short_clips

REPORTS = Path("reports/search")


@dataclass(frozen=True)
class Asked:
    """How a search is asked for on the command line.

    Args:
        space: a shipped one or a file; None for that of the params file.
        params: the file.
        out: the folder of the report; None for the usual one.
    """

    space: str | None
    params: Path
    out: Path | None = None

    @property
    def name(self) -> str:
        """A short name, such as sequence_length."""
        return Path(self.space).stem if self.space else self.params.stem

    @property
    def title(self) -> str:
        """What is searched, for people."""
        return f"space {self.name}" if self.space else f"space of {self.params.name}"

    @property
    def folder(self) -> Path:
        """Of the report."""
        return self.out or REPORTS / self.name

    @property
    def command(self) -> str:
        """What to type for the same search again."""
        options = ["--space", self.space] if self.space else []
        options += ["--params", str(self.params)] if self.params != Path("params.yaml") else []
        options += ["--out", str(self.out)] if self.folder != REPORTS / self.name else []
        return shlex.join(["kineflow", "search", *options])


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Args:
        trials: the best first.
        folder: of trials.csv, trials.json, best.yaml and report.html.
        note: what the user should know, such as that MLflow went away.
    """

    trials: tuple[Trial, ...]
    folder: Path
    note: str | None = None

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[0]

    @property
    def num_whole(self) -> int:
        """Trials that saw every fold; the winner is the best of these."""
        return sum(trial.state == "done" for trial in self.trials)


def run_search(params: Params, asked: Asked) -> Outcome:
    """Carry out `params.search`, going on where the same search stopped before.

    Raises:
        ParamsError: the space names a key or value that cannot be, or that clips are too short for, before anything
            starts.
        KineflowError: no trial finished.
    """
    spec = params.search
    if spec is None:
        raise ParamsError("search is null in params.yaml; write a space there, or name a shipped one with --space")
    check_search(params, spec)
    strategy = _strategy(params, spec)
    made_folder(asked.folder)
    validation = cross_validation(params, spec.stream)
    refuse_short_clips(params, spec, [item.stop - item.start for item in validation.dataset.development])
    work = _work(params, validation)
    key = digest(data=params.data.name, stream=spec.stream, algorithm=spec.algorithm, space=spec.space)
    memory = _Memory(home() / "search" / f"{key[:16]}.jsonl", strategy)
    experiment = f"{params.register_.model_name}-search"
    run_key = digest(search=key, params=as_json(params) | {"search": None})
    shown = {"space": json.dumps(spec.space), "stream": spec.stream, "algorithm": spec.algorithm}
    with (
        Recorder.recording(experiment, run_key, asked.name, shown) as recorder,
        LiveTable(
            metric=strategy.metric, num_trials=max_num_trials(strategy), num_folds=work.num_folds, home=work.home
        ) as table,
    ):
        listener = _Listeners([memory, table, recorder])
        trials = tuple(ranked(search(strategy, work, listener, tried=memory.tried)))
        if trials[0].state != "done":
            reasons = sorted({trial.reason for trial in trials if trial.reason})
            raise KineflowError(f"no trial finished: {reasons[0] if reasons else 'all were pruned'}")
        documents = _write(asked, params, strategy, validation, trials)
        note = recorder.finish(trials[0], documents)
    return Outcome(trials, asked.folder, note)


def check_search(params: Params, spec: SearchParams) -> None:
    """Refuse a space whose keys or values cannot be searched, naming the first that is wrong."""
    where = "search.space"
    if not params.streams[spec.stream].enabled:
        raise ParamsError(f"search.stream: {spec.stream} is not enabled under streams")
    if params.train.workers_per_fold > 1:
        raise ParamsError("search: trials train in one process each; set train.workers_per_fold to 1")
    names = metric_names(params.task, params.labels)
    if spec.metric not in (None, *names):
        raise ParamsError(f"search.metric: {spec.metric!r} is none of {', '.join(names)}")
    check_keys(params, spec.space, streams=[spec.stream], where=where)
    for key, tried in spec.space.items():
        for value in next(iter(tried.values()))[: 2 if "int_range" in tried else None]:
            changed = with_changes(params, {key: value}, where=f"{where}: {key}: {value}")
            find_model(changed.streams[spec.stream].model)
            if key == "train.batch_size":
                refuse_found_batches(changed)
    refuse_missing_negatives(params, spec)
    if "train.batch_size" not in spec.space:
        refuse_found_batches(params)


def with_space(params: Params, values: Mapping[str, Any], *, where: str) -> Params:
    """`params` with another section `search`."""
    return parse_params(as_json(params) | {"search": values}, where=where)


def _strategy(params: Params, spec: SearchParams) -> Strategy:
    halving = None if spec.prune is None else Halving(spec.prune.after_folds, spec.prune.keep)
    return Strategy(
        space=make_space(spec.space),
        algorithm=spec.algorithm,
        metric=spec.metric or params.promotion.metric,
        num_trials=spec.num_trials,
        num_generations=spec.num_generations,
        halving=halving,
        seed=params.seed,
    )


def _work(params: Params, validation: CrossValidation) -> Work:
    return Work(
        jobs_of=validation.jobs,
        score=validation.score,
        home=home().resolve(),
        workspace=Path.cwd(),
        num_folds=len(validation.rows),
        threads=params.train.threads_per_fold,
        gpus=params.train.gpus_per_fold,
        max_failures=params.train.max_failures,
        cache_bytes=int(params.train.cache_gb * 1e9),
    )


class _Listeners(Listener):
    """Several as one."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def trial_began(self, trial: Trial) -> None:
        for listener in self._listeners:
            listener.trial_began(trial)

    def fold_done(self, trial: Trial) -> None:
        for listener in self._listeners:
            listener.fold_done(trial)

    def trial_ended(self, trial: Trial) -> None:
        for listener in self._listeners:
            listener.trial_ended(trial)


class _Memory(Listener):
    """What this search has tried and pruned, on disk: the values that a sampler which learns has to be told.

    Args:
        strategy: what another rule pruned, or the same by another metric, is open again.
    """

    def __init__(self, path: Path, strategy: Strategy) -> None:
        self._path = path
        self._prune = strategy.halving and {**asdict(strategy.halving), "metric": strategy.metric}
        lines = path.read_text().splitlines() if path.is_file() else []
        self._rows = [row for row in map(_whole_row, lines) if row is not None]

    @property
    def tried(self) -> list[Tried]:
        """In the order in which they were tried first."""
        changes = {trial_key(row["changes"]): row["changes"] for row in self._rows}
        by_same_rule = [row for row in self._rows if self._prune and row["pruned_by"] == self._prune]
        pruned_on: defaultdict[str, frozenset[str]] = defaultdict(frozenset)  # by all params that there were
        for row in by_same_rule:
            pruned_on[trial_key(row["changes"])] |= frozenset(row.get("trainings", ()))
        return [Tried(values, pruned_on[key]) for key, values in changes.items()]

    def fold_done(self, trial: Trial) -> None:
        if len(trial.folds) == 1:
            self._add({"changes": trial.changes, "pruned_by": None})

    def trial_ended(self, trial: Trial) -> None:
        if trial.state == "pruned":
            trainings = [fold.job_key for fold in trial.folds]
            self._add({"changes": trial.changes, "pruned_by": self._prune, "trainings": trainings})

    def _add(self, row: dict[str, Any]) -> None:
        if row not in self._rows:
            self._rows.append(row)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write("\n" + json.dumps(row))  # so that half a line of a killed run ends before this one


def _whole_row(line: str) -> dict[str, Any] | None:
    """A line of the memory; None for half of one, which a killed run may leave."""
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row


def _write(
    asked: Asked,
    params: Params,
    strategy: Strategy,
    validation: CrossValidation,
    trials: Sequence[Trial],
) -> list[Path]:
    folder = asked.folder
    best = trials[0]
    table = trials_table(trials)
    csv, values, patch, report = (folder / f for f in ("trials.csv", "trials.json", "best.yaml", "report.html"))
    write_text(csv, table.to_csv(index=False, float_format="%.6g"))
    summary = {
        "name": asked.name,
        "stream": validation.stream,
        "metric": strategy.metric,
        "search": as_json(params.search) if params.search else None,
        "best": {"trial": best.key, strategy.metric: best.mean, "changes": best.changes},
        "trials": json.loads(table.to_json(orient="records")),
    }
    write_text(values, json.dumps(summary, indent=1) + "\n")
    write_patch(patch, best.changes, comment=f"{strategy.metric} {best.mean:.4f} over {len(best.folds)} folds")
    source = SearchReport(
        title=asked.title,
        command=asked.command,
        data_name=params.data.name,
        stream=validation.stream,
        algorithm=strategy.algorithm,
        space=strategy.space,
        metric=strategy.metric,
        num_folds=len(validation.rows),
        trials=tuple(trials),
    )
    write_search_report(report, source)
    return [csv, values, patch, report]
