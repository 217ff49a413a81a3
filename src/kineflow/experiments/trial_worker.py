"""What the worker of a trial does: it trains one fold after another, each of them once."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kineflow.data.decoded_cache import DecodedCache
from kineflow.errors import KineflowError
from kineflow.experiments.space import Changes, Space, tidied, trial_key
from kineflow.experiments.strategy import FAILED, Strategy, score_for_tune
from kineflow.experiments.trials import FoldScores, sentence
from kineflow.training.job import Job, with_threads
from kineflow.training.result import forget_checkpoints, result_store
from kineflow.training.run import run_telling


@dataclass(frozen=True)
class Work:
    """What every trial needs; sent to each process once.

    Args:
        jobs_of: the trainings of some values, one for each fold.
        score: of a finished training and its result folder.
        home: of the results; absolute.
        workspace: that the stores' paths are relative to; absolute.
        threads: cores of a trial. gpus: of a GPU. max_failures: restarts of a trial whose process dies.
    """

    jobs_of: Callable[[Changes], list[Job]]
    score: Callable[[Job, Path], FoldScores]
    home: Path
    workspace: Path
    num_folds: int
    threads: int
    gpus: float
    max_failures: int
    cache_bytes: int


def run_trial(config: dict[str, Any], strategy: Strategy, work: Work) -> None:
    """Runs in a process of Tune's: every fold of some values, for pbt one generation after another."""
    from ray import tune

    os.chdir(work.workspace)
    changes = changes_of(strategy.space, config)
    is_pbt = strategy.algorithm == "pbt"
    for generation in range(_generations_done(tune.get_checkpoint()), strategy.num_generations or 1):
        values: list[float] = []
        try:
            for job in work.jobs_of(changes):
                fold = run_fold(job, work, news_path(work.home, changes))
                values.append(fold.scores[strategy.metric])
                report = {"score": score_for_tune(values, strategy.metric), "fold": asdict(fold)}
                if is_pbt and len(values) == work.num_folds:
                    with _generation_checkpoint(generation + 1) as checkpoint:
                        tune.report(report, checkpoint=checkpoint)
                else:
                    tune.report(report)
        except KineflowError as err:
            tune.report({"score": FAILED, "error": sentence(err)})
            return


def run_fold(job: Job, work: Work, news: Path) -> FoldScores:
    """Train a fold unless it is in the store, and score it; two processes never train the same one.

    Args:
        news: the file to tell in how far it is; gone when it is done.
    """
    key, results = job.key, result_store(work.home)
    if key not in results:
        cache = DecodedCache(work.home / "decoded", work.cache_bytes)
        run_telling(with_threads(job, work.threads), key, work.home, cache, None, news=news)
        forget_checkpoints(work.home / "checkpoints", key)
        news.unlink(missing_ok=True)
    return work.score(job, results.path(key))


def news_path(home: Path, changes: Mapping[str, Any]) -> Path:
    """Where a trial tells how far the fold is that it trains."""
    return home / "progress" / f"trial_{trial_key(changes)}.json"


def changes_of(space: Space, config: Mapping[str, Any]) -> Changes:
    """The values that Tune gave a trial."""
    return tidied(space, config["changes"] if "changes" in config else {key: config[key] for key in space})


@contextmanager
def _generation_checkpoint(num_done: int) -> Iterator[Any]:
    """All that a generation hands on: how many there were. A model of one fold is no start for another fold's."""
    from ray import tune

    with TemporaryDirectory() as folder:
        (Path(folder) / "generations").write_text(str(num_done))
        yield tune.Checkpoint.from_directory(folder)


def _generations_done(checkpoint: Any) -> int:
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        return int((Path(folder) / "generations").read_text())
