"""Run a function over many items on every core, by Ray; the only user of Ray beside training.

Starting Ray costs some five seconds and stopping it one, so short work never starts it: `map_tasks` works in the
calling process until what is left is long enough for the other cores to make up for the start.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kineflow.errors import KineflowError, OutOfReachError, ServiceError
from kineflow.progress.bar import Progress

if TYPE_CHECKING:
    import psutil

Item = TypeVar("Item")
Result = TypeVar("Result")
Caught = TypeVar("Caught", bound=KineflowError)
Errors = type[KineflowError] | tuple[type[KineflowError], ...]

RAY_START_SEC = 6.0  # start and stop of a local cluster
OBJECT_STORE_BYTES = 200 * 2**20  # results are small: what is large goes through files
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)  # for libraries that are imported later
MIN_PARALLEL_ITEMS = 3
HEAD_PATIENCE_SEC = 30.0  # Ray itself ends this process after 60, and says nothing that helps
CANCEL_SEC = 5.0  # for how long a task that does not end is asked to

# Ends processes, given as "pid start-time" words, once the one at the other end of its standard input is gone.
REAPER = """
import os, sys
words = sys.stdin.readline().split()
sys.stdin.read()
for pid, start_time in zip(words[::2], words[1::2]):
    try:
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19] == start_time:
            os.kill(int(pid), 9)
    except OSError:
        pass
"""


@overload
def map_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    num_cpus: float = ...,
    num_gpus: float = ...,
    weights: Sequence[float] | None = ...,
    unit: str = ...,
) -> Iterator[tuple[int, Result]]: ...
@overload
def map_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    catch: type[Caught] | tuple[type[Caught], ...],
    num_cpus: float = ...,
    num_gpus: float = ...,
    weights: Sequence[float] | None = ...,
    unit: str = ...,
) -> Iterator[tuple[int, Result | Caught]]: ...
def map_tasks(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    label: str,
    catch: Errors | None = None,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    weights: Sequence[float] | None = None,
    unit: str = "videos",
) -> Iterator[tuple[int, Any]]:
    """Yield (index, function(item)) for every item, in order of completion.

    A bounded number of tasks is in flight. Library threads are one in each of them. A task whose worker dies is
    tried once more. Leaving the iterator early cancels what runs.

    In this process the lightest items come first, so that the other cores wait for little; on Ray the heaviest, so
    that none is left at the end that one core works on alone.

    Args:
        function: importable or picklable; called with one item, in a worker or in this process.
        items: picklable and small: paths, not pixels.
        label: what the progress lines are about.
        catch: errors of this type come back as values; without it the first error ends all.
        num_cpus: cores that one task uses.
        num_gpus: GPUs that one task uses where there are any. Each worker then keeps its GPU, and what `function`
            cached on it, from item to item. Where there is none, tasks run on cores.
        weights: work of each item in any unit, for an honest estimate of what is left and a good order; equal if None.
        unit: what an item is, in the plural.

    Raises:
        KineflowError: a worker died twice on the same item.
        Exception: whatever `function` raised.
    """
    weights = list(weights) if weights is not None else [1.0] * len(items)
    if len(weights) != len(items):
        raise ValueError(f"{len(weights)} weights for {len(items)} items")
    progress = Progress(label, num_items=len(items), total_weight=sum(weights), unit=unit)
    num_slots = num_workers(num_cpus=num_cpus, num_gpus=num_gpus)
    spent_sec = 0.0
    order = sorted(range(len(items)), key=weights.__getitem__)
    rising = [weights[index] for index in order]
    with ExitStack() as stack:
        stack.callback(progress.close)
        for num_done, index in enumerate(order):
            if _pays(rising, num_done, spent_sec, num_slots):
                stack.enter_context(ray_session())
                progress.change_pace()
                slots = _slots(function, label=label, catch=catch, num_cpus=num_cpus, num_gpus=num_gpus)
                left = sorted(order[num_done:], key=lambda index: -weights[index])
                for place, result in _map_on_ray(slots, [items[index] for index in left], label=label, catch=catch):
                    progress.advance(weights[left[place]])
                    yield left[place], result
                return
            started = time.monotonic()
            outcome = _call_here(function, items[index], catch)
            spent_sec += time.monotonic() - started
            progress.advance(weights[index])
            yield index, outcome


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_workers(*, num_cpus: float = 1.0, num_gpus: float = 0.0) -> int:
    """Tasks of `map_tasks` that run at a time on this machine."""
    if num_gpus:
        import torch

        if num_devices := torch.cuda.device_count():
            return max(1, int(num_devices / num_gpus))
    return max(1, int(num_cores() / num_cpus))


@contextmanager
def ray_session() -> Iterator[None]:
    """Be connected to Ray: to the session already open here, to RAY_ADDRESS, or to a local cluster of our own.

    A local cluster listens on loopback only, runs no dashboard, and ends with the block or with this process.

    Raises:
        ServiceError: the cluster at RAY_ADDRESS does not answer, or a local one does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": num_cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        options |= {"address": address}
    strangers = _children()
    try:
        with environment(ONE_THREAD):  # the workers of a local cluster inherit it
            ray.init(**options)
    except (ConnectionError, RuntimeError, TimeoutError) as err:
        hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        raise ServiceError(f"Ray ({address or 'a local cluster'}) cannot be reached: {err}{hint}") from err
    started = {child for child in _children() if child not in strangers}
    with _ended_with_this_process(started) if address is None else nullcontext():
        try:
            yield
        finally:
            ray.shutdown()


class HeadWatch:
    """Notices that the head of the cluster is gone while tasks are awaited; Ray would wait on, then end the process."""

    def __init__(self) -> None:
        import ray

        through_client = ray.util.client.ray.is_connected()  # which notices by itself
        address = None if through_client else ray.get_runtime_context().gcs_address
        self._address = address
        self._seen = time.monotonic()

    def check(self) -> None:
        """Look whether somebody listens there.

        Raises:
            OutOfReachError: nobody did for `HEAD_PATIENCE_SEC`.
        """
        if self._address is None or _listens(self._address):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > HEAD_PATIENCE_SEC:
            raise OutOfReachError(f"Ray's head at {self._address} is gone; start it again if need be, and run again")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _children() -> "set[psutil.Process]":
    import psutil

    return set(psutil.Process().children(recursive=True))


@contextmanager
def _ended_with_this_process(started: "set[psutil.Process]") -> Iterator[None]:
    """See to it that a local cluster ends with us even after `kill -9`: Ray's agents alone would stay for a minute."""
    if sys.platform != "linux":
        yield
        return
    stats = [(child.pid, Path(f"/proc/{child.pid}/stat")) for child in started]
    words = [f"{pid} {stat.read_text().rpartition(')')[2].split()[19]}" for pid, stat in stats if stat.exists()]
    command = [sys.executable, "-S", "-E", "-c", REAPER]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert reaper.stdin is not None
    reaper.stdin.write(" ".join(words) + "\n")
    reaper.stdin.flush()
    try:
        yield
    finally:
        reaper.stdin.close()
        reaper.wait()


def _pays(weights: Sequence[float], index: int, spent_sec: float, num_slots: int) -> bool:
    """Whether the items from `index` on are worth being done on Ray, judged by those done here so far."""
    if len(weights) - index < MIN_PARALLEL_ITEMS:
        return False
    if "RAY_ADDRESS" in os.environ or _ray_is_on():
        return True
    done_weight = sum(weights[:index])
    if num_slots == 1 or done_weight <= 0:
        return False
    left_sec = spent_sec * sum(weights[index:]) / done_weight
    return left_sec * (1 - 1 / num_slots) > RAY_START_SEC


def _ray_is_on() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


class _TaskSlot:
    """Room for one Ray task; Ray looks after the processes, and keeps one that ended well for the next task."""

    def __init__(self, submit: Callable[[Any], Any]) -> None:
        self.submit = submit

    def ready(self) -> None:
        """It is ready at once, also after a process died."""

    def end(self) -> None:
        """Ray does."""


class _ActorSlot:
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


Slot = _TaskSlot | _ActorSlot


class _Actor:
    """What runs in a worker that is kept."""

    def __init__(self, function: Callable[[Any], Any], catch: Errors | None) -> None:
        self._function, self._catch = function, catch

    def is_ready(self) -> bool:
        """It is, if it answers."""
        return True

    def call(self, item: Any) -> Any:
        """What the function gives for one item."""
        return _call(self._function, item, self._catch)


def _slots(
    function: Callable[[Any], Any], *, label: str, catch: Errors | None, num_cpus: float, num_gpus: float
) -> Sequence[Slot]:
    import ray

    function_ref = ray.put(function)
    resources = ray.cluster_resources()
    if num_gpus and (num_actors := int(resources.get("GPU", 0) / num_gpus)):
        actor = ray.remote(_Actor).options(num_cpus=num_cpus, num_gpus=num_gpus)
        return [_ActorSlot(partial(actor.remote, function_ref, catch)) for _ in range(num_actors)]
    task = ray.remote(_call).options(num_cpus=num_cpus, max_retries=0, name=label)
    num_slots = max(1, int(resources.get("CPU", 1) / num_cpus))
    # twice as many as run, so that no worker waits for the driver
    return [_TaskSlot(lambda item: task.remote(function_ref, item, catch)) for _ in range(2 * num_slots)]


def _map_on_ray(
    slots: Sequence[Slot], items: Sequence[Item], *, label: str, catch: Errors | None
) -> Iterator[tuple[int, Any]]:
    import ray

    free: list[Slot] = []
    starting: dict[Any, Slot] = {}
    running: dict[Any, tuple[Slot, int]] = {}
    todo = deque(range(len(items)))
    lost: set[int] = set()  # their worker died, once
    num_left = len(items)

    def start(slot: Slot) -> None:
        reference = slot.ready()
        if reference is None:
            free.append(slot)
        else:
            starting[reference] = slot

    try:
        for slot in slots:
            start(slot)
        while num_left:
            while free and todo:
                slot, index = free.pop(), todo.popleft()
                running[slot.submit(items[index])] = (slot, index)
            (reference,), _ = ray.wait([*running, *starting], num_returns=1)
            if reference in starting:
                free.append(starting.pop(reference))
                continue
            slot, index = running.pop(reference)
            try:
                outcome = ray.get(reference)
                free.append(slot)
            except ray.exceptions.RayTaskError as err:
                raise err.cause from err
            except ray.exceptions.RayError as err:
                start(slot)
                if index not in lost:
                    lost.add(index)
                    todo.appendleft(index)
                    continue
                outcome = KineflowError(
                    f"{label}: a worker died twice on the same item; it crashed or ran out of memory"
                )
                if catch is None or not isinstance(outcome, catch):
                    raise outcome from err
            num_left -= 1
            yield index, outcome
    finally:
        for slot in slots:
            slot.end()
        cancel_tasks([reference for reference, (slot, _) in running.items() if isinstance(slot, _TaskSlot)])


def cancel_tasks(references: list[Any]) -> None:
    """End tasks; asked again until each has ended, as Ray forgets what it is asked while a task is being started."""
    import ray

    give_up_sec = time.monotonic() + CANCEL_SEC
    while references and time.monotonic() < give_up_sec:
        for reference in references:
            ray.cancel(reference, force=True)
        _, references = ray.wait(references, num_returns=len(references), timeout=0.2)


def _call(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    _set_library_threads(1, 1)  # one process for each core does better
    try:
        with environment(ONE_THREAD):  # also on a cluster that others started
            return function(item)
    except KineflowError as err:
        if catch is not None and isinstance(err, catch):
            return err
        raise


def _call_here(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    """As a worker does it; afterwards this process has its threads again, also in libraries that the item imported."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    usual = int(os.environ.get("OMP_NUM_THREADS", num_cores()))
    before = (torch.get_num_threads() if torch else usual, cv2.getNumThreads() if cv2 else num_cores())
    try:
        return _call(function, item, catch)
    finally:
        _set_library_threads(*before)


def _set_library_threads(torch_threads: int, cv2_threads: int) -> None:
    """For libraries that are imported already: they do not look at the environment again."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(torch_threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(cv2_threads)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables while the context holds; processes that are started in it inherit them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
