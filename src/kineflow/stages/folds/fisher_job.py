"""One training of the stream fv, a fold or the release model: as a value, and the function that carries it out."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kineflow.data.dataset import ClipItem
from kineflow.data.probabilities import Labels
from kineflow.descriptors.cells import VideoCells, read_cells
from kineflow.descriptors.fit_progress import Part, Tell, part_seconds, share_done
from kineflow.descriptors.inputs import FisherInput, predict_probs
from kineflow.descriptors.local import clip_descriptors
from kineflow.descriptors.model import FisherRecipe, Fitted, fit_model, num_inner_folds, save_model
from kineflow.descriptors.windows import OVERLAP, Span, some_windows, window_spans, window_targets
from kineflow.progress.fold_news import Teller
from kineflow.progress.machine import MachineWatch
from kineflow.store import ResultStore, digest, is_not_empty
from kineflow.tables import LOGITS, write_table
from kineflow.training.code_digest import code_digest
from kineflow.training.job import item_key
from kineflow.training.result import logits_table

CODE = (
    "kineflow.descriptors",
    "kineflow.stages.folds.fisher_job",
    "kineflow.data.probabilities",
    "kineflow.data.clips",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "opencv-contrib-python-headless")
WEIGHTS = "weights.safetensors"
RESULT_FILES = (WEIGHTS, "logits.parquet", "result.json")
MAX_WINDOWS = 3000  # task frame: that one classifier is trained on; they are in memory together
MAX_OPEN_VIDEOS = 64  # whose cells are mapped; each scale holds a file descriptor, of which a process usually has 1024
MODEL_NAME = "fisher.svm"


@dataclass(frozen=True)
class FisherJob:
    """A fold, or the release model.

    Args:
        name: for people, for example `fv fold 2`.
        fold: -1 for the release model.
        classes: in the order of the probabilities.
        labels: whether they exclude each other.
        train: clips to train on. val, test: to be scored.
        groups: of each video.
        cells: by video, the key of its cells in the store `cells_root`.
        results_root: of the store of results.
        news_root: the folder of the files that tell how far trainings are.
    """

    name: str
    fold: int
    classes: tuple[str, ...]
    labels: Labels
    train: Sequence[ClipItem]
    val: Sequence[ClipItem]
    test: Sequence[ClipItem]
    groups: Mapping[str, str]
    cells: Mapping[str, str]
    described: FisherInput
    recipe: FisherRecipe
    cells_root: Path
    results_root: Path
    news_root: Path

    @cached_property
    def key(self) -> str:
        """The digest of everything that the result depends on; a worker gets that of the driver."""
        return digest(
            fold=self.fold,
            classes=list(self.classes),
            labels=self.labels,
            train=[[*item_key(item), self.groups[item.video_id]] for item in self.train],
            val=[item_key(item) for item in self.val],
            test=[item_key(item) for item in self.test],
            cells={item.video_id: self.cells[item.video_id] for item in (*self.train, *self.val, *self.test)},
            described=self.described.to_json(),
            recipe=asdict(self.recipe),
            code=code_digest(*CODE),
            libraries={name: version(name) for name in LIBRARIES},
        )

    @property
    def results(self) -> ResultStore:
        """Where results are kept, by key: a folder of `RESULT_FILES`, with `inner.parquet` where there is one."""
        return ResultStore(self.results_root, is_whole=_is_result)

    @property
    def folder(self) -> Path:
        """Its result."""
        return self.results.path(self.key)

    @property
    def news(self) -> Path:
        """Where its worker tells how far it is."""
        return self.news_root / f"{self.key}.json"

    @property
    def num_clips(self) -> int:
        """That it learns from or judges."""
        return len(self.train) + len(self.val) + len(self.test)

    def result(self) -> dict[str, Any]:
        """What `result.json` says."""
        values: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return values


@dataclass(frozen=True)
class _Examples:
    """What is learned from: parts of videos, and what they show (nan where nobody knows)."""

    videos: Sequence[str]
    spans: Sequence[Span]
    targets_NK: NDArray[np.float64]


def run_fisher_job(job: FisherJob) -> None:
    """Fit the classifier of `job` and leave its result in the store, whole or not at all.

    Numerical libraries get one thread, so that the result does not depend on the number of cores.
    """
    started = time.monotonic()
    results, key = job.results, job.key
    if key in results:
        return
    cells_of = cells_by_video(job)
    with threadpool_limits(1), MachineWatch() as machine:
        examples = _of_clips(job) if job.described.window_frames is None else _of_windows(job, cells_of)
        groups_N = [job.groups[video_id] for video_id in examples.videos]
        tell = _telling(job, examples, groups_N)
        fitted = fit_model(
            lambda row: clip_descriptors(cells_of(examples.videos[row]), *examples.spans[row]),
            examples.targets_NK,
            groups_N,
            job.recipe,
            job.labels,
            tell,
        )
        scored = [*job.val, *job.test]
        probs = predict_probs(fitted.model, scored, cells_of, job.described, job.labels, tell)
    with results.writing(key) as folder:
        folder.mkdir()
        save_model(folder / WEIGHTS, fitted.model)
        _write_logits(folder / "logits.parquet", job, scored, probs)
        if fitted.inner_margins_NK is not None and job.described.task == "clip":
            inner = fitted.model.calibration.probs(fitted.inner_margins_NK, job.labels)
            _write_logits(folder / "inner.parquet", job, job.train, list(inner))
        seconds = time.monotonic() - started
        timed = {"seconds": round(seconds, 2), "machine": machine.samples}
        values = _result(fitted, num_examples=len(examples.spans)) | timed
        (folder / "result.json").write_text(json.dumps(values, indent=1) + "\n")


def cells_by_video(job: FisherJob) -> Callable[[str], VideoCells]:
    """Reads the cells of a video; those of the last few stay open."""
    store = ResultStore(job.cells_root)

    @lru_cache(MAX_OPEN_VIDEOS)
    def cells_of(video_id: str) -> VideoCells:
        return read_cells(store.path(job.cells[video_id]), job.described.cells)

    return cells_of


def _telling(job: FisherJob, examples: _Examples, groups_N: Sequence[str]) -> Tell:
    """Writes the news of `job`, as one epoch."""
    judged = [*job.val, *job.test]
    times = 1 if job.described.window_frames is None else OVERLAP  # that a flow is judged
    seconds = part_seconds(
        num_rows=len(groups_N),
        num_flows=sum(stop - start - 1 for start, stop in examples.spans),
        num_judged_flows=times * sum(item.stop - item.start - 1 for item in judged),
        num_views=2 if job.recipe.flip else 1,
        num_channels=len(job.recipe.channels),
        num_classes=len(job.classes),
        num_inner_folds=num_inner_folds(groups_N),
    )
    teller = Teller(job.news, epochs=1, num_clips=job.num_clips)
    teller.begin()

    def tell(part: Part, share: float) -> None:
        teller.step_done(0, share_done(seconds, part, share))

    tell("read", 0.0)
    return tell


def _is_result(folder: Path) -> bool:
    return all(is_not_empty(folder / name) for name in RESULT_FILES)


def _of_clips(job: FisherJob) -> _Examples:
    one_hot_KK = np.eye(len(job.classes))
    targets = [item.target if isinstance(item.target, np.ndarray) else one_hot_KK[item.target] for item in job.train]
    return _Examples(
        [item.video_id for item in job.train],
        [(item.start, item.stop) for item in job.train],
        np.stack(targets).astype(np.float64),
    )


def _of_windows(job: FisherJob, cells_of: Callable[[str], VideoCells]) -> _Examples:
    """Windows of the videos that training clips are of, with the labels of those clips."""
    assert job.described.window_frames is not None
    videos: list[str] = []
    spans: list[Span] = []
    targets = [np.zeros((0, len(job.classes)))]
    for video_id in dict.fromkeys(item.video_id for item in job.train):
        labels_TK = np.full((cells_of(video_id).num_flows + 1, len(job.classes)), np.nan)
        for item in job.train:
            if item.video_id == video_id and isinstance(item.target, np.ndarray):
                labels_TK[item.start : item.stop] = item.target
        of_video = window_spans(len(labels_TK), job.described.window_frames)
        videos += [video_id] * len(of_video)
        spans += of_video
        targets.append(window_targets(labels_TK, of_video, job.labels))
    targets_WK = np.concatenate(targets)
    rows = some_windows(targets_WK, MAX_WINDOWS)
    return _Examples([videos[row] for row in rows], [spans[row] for row in rows], targets_WK[rows])


def _write_logits(path: Path, job: FisherJob, items: Sequence[ClipItem], probs: Sequence[np.ndarray]) -> None:
    task = job.described.task
    table = logits_table(items, probs, job.classes, model=MODEL_NAME, fold=job.fold, task=task, labels=job.labels)
    write_table(path, LOGITS, table)


def _result(fitted: Fitted, *, num_examples: int) -> dict[str, Any]:
    return {
        "num_params": fitted.model.num_parameters,
        "macs": fitted.model.num_macs(fitted.num_descriptors),
        "num_examples": num_examples,
        "num_descriptors": round(fitted.num_descriptors, 1),
        "calibrated": fitted.inner_margins_NK is not None,
    }
