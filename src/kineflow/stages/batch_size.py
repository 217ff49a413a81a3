"""The batch size of `train.batch_size: auto`: chosen once for all folds of a training, and remembered.

Remembered where results of trainings are, and for everything that the choice is for: so a run that was killed goes on
with the size that it began with, another seed has it too, and no finished fold is trained again because the machine
was busier the second time.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context

from kineflow.parallel.memory import available_bytes
from kineflow.parallel.threads import num_cores
from kineflow.params import TrainParams
from kineflow.stages import stage
from kineflow.stages.fold_jobs import usual_batch, with_batch_size
from kineflow.stages.stage import StageReport
from kineflow.store import ResultStore, home
from kineflow.training.batch_size import (
    SMALLEST,
    Found,
    Steps,
    choice_key,
    find_batch_size,
    largest_batch,
    try_steps,
    within_memory,
)
from kineflow.training.folds import Resources
from kineflow.training.job import Job, claimed
from kineflow.training.precision import choose_device

MEMORY_SHARE = 0.8  # of what is free: trainings hold more than their steps
FOUND_JSON = "found.json"


def with_found_batch_size(jobs: list[Job], train: TrainParams, resources: Resources, report: StageReport) -> list[Job]:
    """The folds of one training with the batch size that the device trains at best, and the rate that goes with it."""
    usual, largest = usual_batch(train), largest_batch(jobs)
    key = choice_key(jobs[0], usual=usual, largest=largest)
    store, kept = ResultStore(home() / "store" / "batch_size"), resources.run_storage
    with claimed(home() / "checkpoints", key):
        remembered = key in store or (kept is not None and kept.fetch_result(key, store))
        if not remembered:
            found = _try(jobs, resources, usual=usual, largest=largest)
            with store.writing(key) as folder:
                folder.mkdir()
                (folder / FOUND_JSON).write_text(json.dumps(asdict(found), indent=1) + "\n")
        if kept is not None:
            kept.keep_result(key, store.path(key))
    found = Found(**json.loads((store.path(key) / FOUND_JSON).read_text()))
    when = "as chosen before" if remembered else "chosen for all folds"
    report.note(f"training {jobs[0].model.name} in batches of {found.batch_size}, {when}: {found.why}")
    return [with_batch_size(job, found.batch_size, train) for job in jobs]


def _try(jobs: list[Job], resources: Resources, *, usual: int, largest: int) -> Found:
    job = jobs[0]
    if choose_device(job.gpus).type == "cuda":
        room_bytes = sys.maxsize  # of the GPU, which says itself when it is full
    else:
        side_by_side = resources.workers if resources.workers > 1 else min(len(jobs), num_cores() // resources.threads)
        room_bytes = int(MEMORY_SHARE * available_bytes() / max(1, side_by_side))
    with _another_process() as pool:

        def steps(batch_size: int) -> Steps | None:
            try:
                return pool.submit(try_steps, job, batch_size).result()
            except BrokenProcessPool:  # the system ended it, as it does where memory is short
                return None

        try_size = within_memory(steps, room_bytes)
        return find_batch_size(try_size, usual=usual, largest=largest, smallest=SMALLEST * job.workers)


def _begin() -> None:
    stage.die_with_parent()


@contextmanager
def _another_process() -> Iterator[ProcessPoolExecutor]:
    """One process that ends with the block, and with this process however that ends."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
