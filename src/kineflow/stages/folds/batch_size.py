"""The batch size of `train.batch_size: auto`: one for all folds of a training, by steps that are tried once.

What they took is remembered where results of trainings are; the size follows from it, from the folds and from the
machine. So a run that was killed goes on with the size that it began with, other seeds go by the same times, and no
finished fold is trained again because the machine was busier the second time. But more trainings side by side, or a
smaller machine, get the size that there is room for.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from kineflow.parallel.memory import total_bytes
from kineflow.parallel.threads import num_cores
from kineflow.params import TrainParams
from kineflow.stages.folds.jobs import usual_batch, with_batch_size
from kineflow.stages.folds.trial_process import TrialProcess
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, digest, home
from kineflow.training.batch_size import SMALLEST, Steps, find_batch_size, largest_batch, steps_key, within_memory
from kineflow.training.folds import Resources
from kineflow.training.job import Job
from kineflow.training.precision import choose_device
from kineflow.training.run import claimed
from kineflow.training.run_storage import RunStorage

MEMORY_SHARE = 0.8  # of what is free: trainings hold more than their steps
STEPS_JSON = "steps.json"


def with_found_batch_size(
    jobs: list[Job], train: TrainParams, resources: Resources, report: StageReport, *, num_trainings: int
) -> list[Job]:
    """The folds of one training with the batch size that the device trains at best, and the rate that goes with it.

    Args:
        num_trainings: that the machine is given at once: these, and what goes with them.

    Raises:
        KineflowError: the steps that are to be tried raised it, or their process crashed.
    """
    job, key = jobs[0], steps_key(jobs[0])
    num_processes = num_trainings * resources.workers
    side_by_side = max(resources.workers, min(num_processes, num_cores() // resources.threads))

    def room_bytes(first: Steps) -> float:
        """What was free, and not what is: else the size would change with whatever else goes on."""
        if choose_device(job.gpus).type == "cuda":
            return math.inf  # a GPU says itself when it is full
        return MEMORY_SHARE * min(first.free_bytes, total_bytes()) / side_by_side

    with claimed(home() / "checkpoints", key), closing(TrialProcess(job)) as trial:
        steps = RememberedSteps(key, trial.try_steps, resources.run_storage)
        found = find_batch_size(
            within_memory(steps, room_bytes),
            usual=usual_batch(train),
            largest=largest_batch(jobs),
            smallest=SMALLEST * job.workers,
        )
    when = "tried for all folds" if steps.num_tried else "as tried before"
    report.note(f"training {job.model.name} in batches of {found.batch_size}, {when}: {found.why}")
    return [with_batch_size(job, found.batch_size, train) for job in jobs]


class RememberedSteps:
    """What steps take, by batch size: tried once, and once more when asked again, but not by another run.

    That a size has no room is remembered too, once another has: a machine that has no room for any may have it later.

    Attributes:
        num_tried: sizes that nothing was remembered of.
    """

    def __init__(self, key: str, try_steps: Callable[[int], Steps | None], run_storage: RunStorage | None) -> None:
        self._key = key
        self._try_steps = try_steps
        self._kept = run_storage
        self._store = ResultStore(home() / "store" / "batch_size", is_whole=_is_whole)
        self._asked: Counter[int] = Counter()
        self.num_tried = 0

    def __call__(self, batch_size: int) -> Steps | None:
        """What steps in batches of so many clips took; None where there was no room for them."""
        self._asked[batch_size] += 1
        key = digest(steps=self._key, batch_size=batch_size, attempt=self._asked[batch_size])
        if key not in self._store and not (self._kept is not None and self._kept.fetch_result(key, self._store)):
            self.num_tried += 1
            steps = self._try_steps(batch_size)
            if steps is None and len(self._asked) == 1:
                return None
            with self._store.writing(key) as folder:
                folder.mkdir()
                values = {"batch_size": batch_size, "steps": None if steps is None else asdict(steps)}
                (folder / STEPS_JSON).write_text(json.dumps(values, indent=1) + "\n")
        if self._kept is not None:
            self._kept.keep_result(key, self._store.path(key))
        return _read(self._store.path(key))


def _read(folder: Path) -> Steps | None:
    values = json.loads((folder / STEPS_JSON).read_text())["steps"]
    return None if values is None else Steps(**values)


def _is_whole(folder: Path) -> bool:
    try:
        _read(folder)
    except (OSError, ValueError):
        return False
    return True
