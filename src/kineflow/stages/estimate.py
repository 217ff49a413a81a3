"""What the per-video stages have left to do, how long it takes here, and what it takes on the disk.

Some of the user's videos are tried: their first frames go through the very code of the stages, into a folder that is
deleted. What a video costs however few of its frames are asked for (fetching it, reading its packets or its keypoints)
is told apart from what each frame costs, and counted once. The videos are drawn by their work, so the mean over them of
seconds (or bytes) by work is a fair estimate for all (Hansen and Hurwitz 1943), and its standard error says how far it
may be off.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from kineflow.errors import DataError, StorageFullError
from kineflow.parallel.session import RAY_START_SEC
from kineflow.parallel.tasks import map_tasks, num_workers
from kineflow.params import Params
from kineflow.stages import paths
from kineflow.stages.compute_flow import plan_flow
from kineflow.stages.compute_pose import plan_pose
from kineflow.stages.embed import plan_embeddings
from kineflow.stages.extract_frames import ExtractTask, check_source, extract_into, plan_frames
from kineflow.stages.video_results import VideoPlan, VideoTask, bytes_copied, device
from kineflow.store import ResultStore, free_bytes, in_bytes
from kineflow.tables import VIDEOS, read_table

SAMPLE_SEC = 2.0  # of work on each video, in each stage
FEW_FRAMES = 3  # mostly what a video costs at all
MAX_FRAMES = 200
Task = TypeVar("Task")


@dataclass(frozen=True)
class Amount:
    """An estimated number, and twice its standard error: where a like sample of videos would put it."""

    value: float
    margin: float


NOTHING = Amount(0.0, 0.0)


@dataclass(frozen=True)
class StageEstimate:
    """What one stage has left to do.

    Args:
        stage: its name.
        num_videos: that it has a result of, or is to have one.
        num_missing: results to be made.
        num_workers: that work at a time on this machine.
        seconds: until all are made.
        num_bytes: on the disk of the store.
        out: where the results are to be linked.
        copied_bytes: of all results there, where that is another disk.
    """

    stage: str
    num_videos: int
    num_missing: int
    num_workers: int
    seconds: Amount
    num_bytes: Amount
    out: Path
    copied_bytes: float = 0.0


@dataclass(frozen=True)
class Disk:
    """What is to be written to a disk, and the room that it has.

    Args:
        path: a folder on it.
    """

    path: Path
    num_bytes: float
    free_bytes: int


@dataclass(frozen=True)
class Estimate:
    """All stages, and the disks.

    Args:
        stages: in the order of the graph; a disabled one is left out.
        store: where results are kept.
    """

    stages: tuple[StageEstimate, ...]
    store: Path

    @property
    def disks(self) -> list[Disk]:
        """That of the store, and others that results are copied to."""
        stored = Disk(self.store, sum(stage.num_bytes.value for stage in self.stages), free_bytes(self.store))
        copied: dict[int, Disk] = {}
        for stage in self.stages:
            if stage.copied_bytes:
                before = copied.get(device(stage.out), Disk(stage.out, 0.0, free_bytes(stage.out)))
                copied[device(stage.out)] = replace(before, num_bytes=before.num_bytes + stage.copied_bytes)
        return [stored, *copied.values()]


@dataclass(frozen=True)
class Tried:
    """What a video takes as a whole, by its work."""

    seconds_by_work: float
    bytes_by_work: float


def estimate(params: Params, *, num_samples: int) -> Estimate:
    """Look at what is left, and try some videos of each stage.

    Args:
        num_samples: videos that each stage tries; one that holds much of the work may count several times.

    Raises:
        DataError: there is no videos table yet, or a video is gone or cannot be decoded.
        ParamsError: weights that params name are not on this machine.
    """
    if not paths.VIDEOS.is_file():
        raise DataError(f"{paths.VIDEOS} is not there; `dvc repro validate_raw` lists and measures the videos first")
    frames = plan_frames(params, read_table(paths.VIDEOS, VIDEOS))
    with tempfile.TemporaryDirectory(prefix="kineflow-estimate-") as name:
        sampler = _Sampler(Path(name), {entry.result.video_id: entry.task for entry in frames.tasks}, num_samples)
        found = [sampler.estimate("extract_frames", frames, sampler.try_extraction, out=paths.FRAMES)]
        if params.needs_flow:
            flow = plan_flow(params, frames.results)
            found.append(sampler.estimate("compute_flow", flow, sampler.try_on_frames, out=paths.FLOW))
        if params.streams.pose.enabled:
            poses = plan_pose(params, frames.results)
            found.append(sampler.estimate("compute_pose", poses, sampler.try_on_frames, out=paths.POSE))
        if params.embed.enabled:
            features = plan_embeddings(params, frames.results)
            found.append(sampler.estimate("embed", features, sampler.try_on_frames, out=paths.EMBEDDINGS))
    return Estimate(tuple(found), frames.store.root.parent)


def drawn(works: Sequence[float], num_samples: int) -> list[int]:
    """Indices of items drawn in even steps through the total work; one may come up several times."""
    step = sum(works) / num_samples
    found: list[int] = []
    passed, index = 0.0, 0
    for number in range(num_samples):
        while index < len(works) - 1 and passed + works[index] <= (number + 0.5) * step:
            passed += works[index]
            index += 1
        found.append(index)
    return found


def total_of(by_work: Sequence[float], total_work: float) -> Amount:
    """The total over all items, of what some that were drawn by their work took for each unit of it."""
    mean = statistics.fmean(by_work)
    error = statistics.stdev(by_work) / len(by_work) ** 0.5 if len(by_work) > 1 else 0.0
    return Amount(mean * total_work, 2 * error * total_work)


def in_parallel(by_work: Amount, works: Sequence[float], num_workers: int) -> Amount:
    """Seconds until all items are done, the one of most work first; in this process where no more pays.

    Args:
        by_work: seconds of one worker for all items.
        works: of each item.
    """
    longest_sec = by_work.value * max(works) / sum(works)
    shared_sec = max(by_work.value / num_workers, longest_sec) + RAY_START_SEC
    if num_workers == 1 or shared_sec >= by_work.value:
        return by_work
    return Amount(shared_sec, by_work.margin * (shared_sec - RAY_START_SEC) / by_work.value)


class _Sampler:
    """Tries tasks in a folder of its own."""

    def __init__(self, folder: Path, videos: Mapping[str, ExtractTask], num_samples: int) -> None:
        self._folder = folder
        self._videos = videos
        self._num_samples = num_samples
        self._frame_sec: dict[Any, float] = {}  # by function, as seen so far

    def estimate(
        self,
        stage: str,
        plan: VideoPlan[Task],
        try_one: Callable[[VideoPlan[Task], VideoTask[Task]], Tried],
        *,
        out: Path,
    ) -> StageEstimate:
        missing = plan.missing()
        workers = min(num_workers(num_gpus=plan.num_gpus), max(1, len(missing)))
        if not missing:
            copied_bytes = bytes_copied(plan, 0.0, out=out)
            return StageEstimate(stage, len(plan.tasks), 0, workers, NOTHING, NOTHING, out, copied_bytes)
        works = [entry.work for entry in missing]
        indices = drawn(works, self._num_samples)
        tried = {index: try_one(plan, missing[index]) for index in dict.fromkeys(indices)}
        work_sec = total_of([tried[index].seconds_by_work for index in indices], sum(works))
        num_bytes = total_of([tried[index].bytes_by_work for index in indices], sum(works))
        seconds = in_parallel(work_sec, works, workers)
        copied_bytes = bytes_copied(plan, num_bytes.value, out=out)
        return StageEstimate(stage, len(plan.tasks), len(missing), workers, seconds, num_bytes, out, copied_bytes)

    def try_extraction(self, plan: VideoPlan[ExtractTask], entry: VideoTask[ExtractTask]) -> Tried:
        """The first frames of a video, for as long as a sample lasts; all before the first is what it costs at all."""
        target = self._folder / "frames.zip"
        frame_times: list[float] = []

        def enough(num_frames: int) -> bool:
            frame_times.append(time.perf_counter())
            return frame_times[-1] - frame_times[0] > SAMPLE_SEC

        def extract(task: ExtractTask) -> int:
            check_source(task)
            return extract_into(target, task, enough=enough)

        started = time.perf_counter()
        num_frames = _on_one_thread(extract, entry.task)
        frame_sec = (frame_times[-1] - frame_times[0]) / max(1, num_frames - 1)
        return _tried(entry, num_frames, time.perf_counter() - started, frame_sec, target)

    def try_on_frames(self, plan: VideoPlan[Any], entry: VideoTask[Any]) -> Tried:
        """The stage's own function on few frames of a video, and on so many more that they last as long as a sample."""
        if plan.function not in self._frame_sec:
            self._run(plan, entry, FEW_FRAMES)  # loads what all videos share
        few, few_sec, _ = self._run(plan, entry, FEW_FRAMES)
        frame_sec = self._frame_sec.get(plan.function, few_sec / max(1, few))
        num_frames = FEW_FRAMES
        while True:
            num_frames = min(MAX_FRAMES, max(2 * num_frames, round(SAMPLE_SEC / max(frame_sec, 1e-9))))
            done, seconds, result = self._run(plan, entry, num_frames)
            frame_sec = max(0.0, seconds - few_sec) / max(1, done - few)
            if num_frames == MAX_FRAMES or done == entry.result.num_frames or seconds - few_sec > SAMPLE_SEC / 2:
                self._frame_sec[plan.function] = frame_sec
                return _tried(entry, done, seconds, frame_sec, result)

    def _run(self, plan: VideoPlan[Any], entry: VideoTask[Any], num_frames: int) -> tuple[int, float, Path]:
        """Number of results, seconds, and the file that they are in."""
        frames = self._folder / "first.zip"
        video = replace(self._videos[entry.result.video_id], length=None)  # few frames need no look at all packets
        extract_into(frames, video, enough=lambda number: number >= num_frames)
        store = ResultStore(self._folder / "store")
        task = replace(entry.task, frames=frames, store_root=store.root)
        started = time.perf_counter()
        done = _on_one_thread(plan.function, task)
        return done, time.perf_counter() - started, store.path(entry.result.key)


def _on_one_thread(function: Callable[[Task], int], task: Task) -> int:
    """As a worker runs it."""
    ((_, done),) = map_tasks(function, [task], label="estimate")
    return done


def _tried(entry: VideoTask[Any], num_frames: int, seconds: float, frame_sec: float, result: Path) -> Tried:
    """The whole of a video, of whose frames the first took `seconds`, and each more takes `frame_sec`."""
    whole_sec = seconds + frame_sec * (entry.result.num_frames - num_frames)
    whole_bytes = result.stat().st_size * entry.result.num_frames / max(1, num_frames)
    return Tried(whole_sec / entry.work, whole_bytes / entry.work)


def print_estimate(found: Estimate) -> None:
    """Print a row for each stage, and what the disks say to it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("stage", "videos", "to do", "time", "disk"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for stage in found.stages:
        cells = (_cell(stage.seconds, in_time), _cell(stage.num_bytes, in_bytes)) if stage.num_missing else ("-", "-")
        table.add_row(stage.stage, f"{stage.num_videos:,}", f"{stage.num_missing:,}", *cells)
    console = Console(highlight=False)
    console.print(table)
    workers = max(stage.num_workers for stage in found.stages)
    seconds = sum(stage.seconds.value for stage in found.stages)
    console.print(f"in all {in_time(seconds)} with {workers} worker{'s' * (workers > 1)}", soft_wrap=True)
    for disk in found.disks:
        room = f"{in_bytes(disk.num_bytes)} on the disk of {disk.path}, which has {in_bytes(disk.free_bytes)} free"
        console.print(room, soft_wrap=True)


def refuse_what_will_not_fit(found: Estimate) -> None:
    """Let pass what fits on the disks.

    Raises:
        StorageFullError: it does not fit.
    """
    for disk in found.disks:
        if disk.num_bytes > disk.free_bytes:
            raise StorageFullError(
                f"about {in_bytes(disk.num_bytes)} will not fit into the {in_bytes(disk.free_bytes)} free on the disk "
                f"of {disk.path}; free some room, set KINEFLOW_HOME to a larger disk, or lower the frames' size, fps "
                "or quality"
            )


def in_time(seconds: float) -> str:
    """Seconds for people, in one unit: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _cell(amount: Amount, in_words: Callable[[float], str]) -> str:
    margin = round(100 * amount.margin / amount.value) if amount.value else 0
    return in_words(amount.value) + (f" ± {margin}%" if margin else "")
