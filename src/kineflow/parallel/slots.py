"""Room for one item at a time on Ray: a task on cores, or a worker that keeps its GPU."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from kineflow.errors import KineflowError
from kineflow.parallel.threads import ONE_THREAD, environment, set_library_threads

Item = TypeVar("Item")
Errors = type[KineflowError] | tuple[type[KineflowError], ...]

CANCEL_SEC = 5.0  # for how long a task that does not end is asked to


class TaskSlot:
    """Room for one Ray task; Ray looks after the processes, and keeps one that ended well for the next task."""

    def __init__(self, submit: Callable[[Any], Any]) -> None:
        self.submit = submit

    def ready(self) -> None:
        """It is ready at once, also after a process died."""

    def end(self) -> None:
        """Ray does."""


class ActorSlot:
    """A worker that holds a GPU, and what was loaded onto it, until the end: Ray ends the process of a task instead."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._actor: Any = None

    def ready(self) -> Any:
        """Start the worker, another one if it died; the reference is there once it has its GPU."""
        self.end()
        self._actor = self._start()
        return self._actor.is_ready.remote()

    def submit(self, item: Any) -> Any:
        """The reference of what the function gives for an item."""
        return self._actor.call.remote(item)

    def end(self) -> None:
        """End the worker, and what it does."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)


Slot = TaskSlot | ActorSlot


def make_slots(
    function: Callable[[Any], Any], *, label: str, catch: Errors | None, num_cpus: float, num_gpus: float
) -> Sequence[Slot]:
    """A worker for each GPU where tasks use GPUs and there are any, room for tasks on cores otherwise."""
    import ray

    function_ref = ray.put(function)
    resources = ray.cluster_resources()
    if num_gpus and (num_actors := int(resources.get("GPU", 0) / num_gpus)):
        actor = ray.remote(_Actor).options(num_cpus=num_cpus, num_gpus=num_gpus)
        return [ActorSlot(partial(actor.remote, function_ref, catch)) for _ in range(num_actors)]
    task = ray.remote(call).options(num_cpus=num_cpus, max_retries=0, name=label)
    num_slots = max(1, int(resources.get("CPU", 1) / num_cpus))
    # twice as many as run, so that no worker waits for the driver
    return [TaskSlot(lambda item: task.remote(function_ref, item, catch)) for _ in range(2 * num_slots)]


class _Actor:
    """What runs in a worker that is kept."""

    def __init__(self, function: Callable[[Any], Any], catch: Errors | None) -> None:
        self._function, self._catch = function, catch

    def is_ready(self) -> bool:
        """It is, if it answers."""
        return True

    def call(self, item: Any) -> Any:
        """What the function gives for one item."""
        return call(self._function, item, self._catch)


def call(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    """What the function gives for the item, by one thread; an error to catch comes back as a value."""
    set_library_threads(1, 1)  # one process for each core does better
    try:
        with environment(ONE_THREAD):  # also on a cluster that others started
            return function(item)
    except KineflowError as err:
        if catch is not None and isinstance(err, catch):
            return err
        raise


def cancel_tasks(references: list[Any]) -> None:
    """End tasks; asked again until each has ended, as Ray forgets what it is asked while a task is being started."""
    import ray

    give_up_sec = time.monotonic() + CANCEL_SEC
    while references and time.monotonic() < give_up_sec:
        for reference in references:
            ray.cancel(reference, force=True)
        _, references = ray.wait(references, num_returns=len(references), timeout=0.2)
