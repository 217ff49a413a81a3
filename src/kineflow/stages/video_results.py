"""One result for each video: computed once, kept by key, linked into a stage's out with an `index.tsv`.

The out is byte for byte what a clean run makes. `index.tsv` is written last.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kineflow.errors import DataError, KineflowError, StorageFullError
from kineflow.parallel.tasks import map_tasks
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, existing_part, free_bytes, in_bytes
from kineflow.video.result_index import VideoResult, write_index

NUM_WEIGHED = 50
Task = TypeVar("Task")


@dataclass(frozen=True)
class VideoTask(Generic[Task]):
    """What makes a result, and how much work that is, in any unit."""

    result: VideoResult
    task: Task
    work: float


@dataclass(frozen=True)
class VideoPlan(Generic[Task]):
    """What a stage is to make.

    Args:
        function: writes the result of its task to the store, whole or not at all, and returns its number of frames.
        tasks: one for each video; results of the same key are made once.
        store: holds the results.
        min_frame_bytes: the least that a frame, flow or feature takes on the disk; asked only if some are to be made.
        num_gpus: GPUs that a worker uses, where there are any.
    """

    function: Callable[[Task], int]
    tasks: Sequence[VideoTask[Task]]
    store: ResultStore
    min_frame_bytes: Callable[[], float]
    num_gpus: float = 0.0

    @property
    def results(self) -> list[VideoResult]:
        """What every video's result is, whether it is there or not."""
        return [entry.result for entry in self.tasks]

    def missing(self) -> list[VideoTask[Task]]:
        """What is to be made, each key once."""
        return list({entry.result.key: entry for entry in self.tasks if entry.result.key not in self.store}.values())


def compute_missing(plan: VideoPlan[Task], report: StageReport, *, out: Path) -> None:
    """Make the results that the store lacks, and count those that it has.

    Args:
        out: where they are to be linked.

    Raises:
        StorageFullError: they do not fit on the disk; nothing was written.
        KineflowError: the first error of a task, with the video named.
        DataError: a result has not as many frames as the tables say, or was made where we do not see it.
    """
    plan.store.sweep()
    todo = plan.missing()
    keys = {entry.result.key for entry in todo}
    report.items = len(plan.tasks)
    report.skipped = sum(result.key not in keys for result in plan.results)
    check_room(plan, todo, out=out)
    outcomes = map_tasks(
        plan.function,
        [entry.task for entry in todo],
        label=report.stage,
        weights=[entry.work for entry in todo],
        num_gpus=plan.num_gpus,
        catch=KineflowError,
    )
    for index, outcome in outcomes:
        result = todo[index].result
        if isinstance(outcome, KineflowError):
            raise type(outcome)(f"{result.video_id}: {outcome}") from outcome
        if outcome != result.num_frames:
            plan.store.path(result.key).unlink(missing_ok=True)
            raise DataError(f"{result.video_id}: {outcome} frames made, {result.num_frames} expected; run ingest again")
        if result.key not in plan.store:
            raise DataError(
                f"{result.video_id}: its result is not in {plan.store.root}; the machines of a Ray cluster must share "
                "the disk of the workspace"
            )


def check_room(plan: VideoPlan[Task], todo: Sequence[VideoTask[Task]], *, out: Path) -> None:
    """Refuse what cannot fit, by a rule from numbers of frames and from the results that are there.

    Raises:
        StorageFullError: the disk of the store, or that of `out` if it is another one, has not even the room for as
            many frames as lean as they get.
    """
    if not todo:
        return
    keys = {entry.result.key for entry in todo}
    there = [result for result in plan.results if result.key not in keys]
    frame_bytes = _leanest_frame_bytes(plan.store, there) or plan.min_frame_bytes()
    needed_bytes = frame_bytes * sum(entry.result.num_frames for entry in todo)
    _refuse_if_short(plan.store.root, needed_bytes, num_videos=len(todo))
    if copied_bytes := bytes_copied(plan, needed_bytes, out=out):
        _refuse_if_short(out, copied_bytes, num_videos=len(plan.tasks))


def bytes_copied(plan: VideoPlan[Task], missing_bytes: float, *, out: Path) -> float:
    """What all results take at `out`, where that is on another disk than the store: no hard links lead there.

    Args:
        missing_bytes: of the results that are to be made.
    """
    if device(out) == device(plan.store.root):
        return 0.0
    there = [result.key for result in plan.results if result.key in plan.store]
    return missing_bytes + sum(plan.store.path(key).stat().st_size for key in there)


def _leanest_frame_bytes(store: ResultStore, there: Sequence[VideoResult]) -> float:
    """The least bytes a frame among some of the results that are there; 0 without any."""
    some = there[:: max(1, len(there) // NUM_WEIGHED)]
    return min((store.path(item.key).stat().st_size / max(1, item.num_frames) for item in some), default=0.0)


def _refuse_if_short(path: Path, needed_bytes: float, *, num_videos: int) -> None:
    free = free_bytes(path)
    if needed_bytes > free:
        raise StorageFullError(
            f"the results of {num_videos} videos take at least {in_bytes(needed_bytes)}, and the disk of {path} has "
            f"{in_bytes(free)} free; free some room, set KINEFLOW_HOME to a larger disk, or lower the frames' size, "
            "fps or quality (`kineflow estimate` says what is needed)"
        )


def device(path: Path) -> int:
    """Number of the disk of `path`, which need not exist yet."""
    return existing_part(path).stat().st_dev


def link_results(out: Path, results: Sequence[VideoResult], *, store: ResultStore, suffix: str) -> None:
    """Make `out` hold the results and nothing else, as `<video_id>.<suffix>`, and their index."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    root = out.resolve()
    for result in results:
        target = out / f"{result.video_id}.{suffix}"
        if not target.resolve().is_relative_to(root) or set(result.video_id) & set("\t\r\n"):
            raise DataError(f"video {result.video_id!r} cannot name a file of {out}; rename it")
        store.link(result.key, target)
    write_index(out, results)
