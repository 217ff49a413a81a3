"""One result for each video: computed once, kept by key, linked into a stage's out with an `index.tsv`.

The out is byte for byte what a clean run makes. `index.tsv` is written last; its columns are video_id, key (of
everything that the result depends on) and num_frames (how many images, flows or features the file holds).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kineflow.errors import DataError, KineflowError
from kineflow.parallel import map_tasks
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore

INDEX = "index.tsv"
HEADER = "video_id\tkey\tnum_frames"
Task = TypeVar("Task")


@dataclass(frozen=True)
class VideoResult:
    """What the result of one video is: its key in the store, and how many frames, flows or features it holds."""

    video_id: str
    key: str
    num_frames: int


def compute_missing(
    function: Callable[[Task], int],
    tasks: Sequence[tuple[VideoResult, Task, float]],
    *,
    store: ResultStore,
    report: StageReport,
) -> None:
    """Call `function` for the results that the store lacks, and count what was there.

    Args:
        function: writes the result of its task to the store, whole or not at all, and returns its number of frames.
        tasks: each result with its task and its work in any unit; results of the same key are made once.

    Raises:
        KineflowError: the first error of a task, with the video named.
        DataError: a result has not as many frames as the tables say.
    """
    store.sweep()
    missing = {entry[0].key: entry for entry in tasks if entry[0].key not in store}
    todo = list(missing.values())
    report.items = len(tasks)
    report.skipped = sum(result.key not in missing for result, _, _ in tasks)
    outcomes = map_tasks(
        function,
        [task for _, task, _ in todo],
        label=report.stage,
        weights=[weight for _, _, weight in todo],
        catch=KineflowError,
    )
    for index, outcome in outcomes:
        result = todo[index][0]
        if isinstance(outcome, KineflowError):
            raise type(outcome)(f"{result.video_id}: {outcome}") from outcome
        if outcome != result.num_frames:
            store.path(result.key).unlink(missing_ok=True)
            raise DataError(f"{result.video_id}: {outcome} frames made, {result.num_frames} expected; run ingest again")


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
    rows = [f"{result.video_id}\t{result.key}\t{result.num_frames}" for result in results]
    partial = out / f"{INDEX}.partial"
    partial.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    partial.replace(out / INDEX)


def read_index(out: Path) -> list[VideoResult]:
    """What the stage that owns `out` made.

    Raises:
        DataError: it made nothing.
    """
    path = out / INDEX
    if not path.is_file():
        raise DataError(f"{path} is not there; run the stage that makes {out}")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:-1]]
    return [VideoResult(video_id, key, int(num_frames)) for video_id, key, num_frames in rows]
