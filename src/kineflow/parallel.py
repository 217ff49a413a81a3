"""Run a function over many items on every core, by Ray; the only user of Ray beside training.

Starting Ray costs some five seconds and stopping it one, so short work never starts it: `map_tasks` works in the
calling process until what is left is long enough for the other cores to make up for the start.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kineflow.errors import KineflowError, ServiceError

if TYPE_CHECKING:
    import psutil

Item = TypeVar("Item")
Result = TypeVar("Result")
Caught = TypeVar("Caught", bound=KineflowError)
Errors = type[KineflowError] | tuple[type[KineflowError], ...]

RAY_START_SEC = 6.0  # start and stop of a local cluster
OBJECT_STORE_BYTES = 200 * 2**20  # results are small: what is large goes through files
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MIN_PARALLEL_ITEMS = 3
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

    Args:
        function: importable or picklable; called with one item, in a worker or in this process.
        items: picklable and small: paths, not pixels.
        label: what the progress lines are about.
        catch: errors of this type come back as values; without it the first error ends all.
        num_cpus: cores that one task uses.
        num_gpus: GPUs that one task uses where there are any. Each worker then keeps its GPU, and what `function`
            cached on it, from item to item. Where there is none, tasks run on cores.
        weights: work of each item in any unit, for an honest estimate of what is left; equal if None.
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
    with ExitStack() as stack:
        stack.callback(progress.close)
        for index, item in enumerate(items):
            if _pays(weights, index, spent_sec, num_slots):
                stack.enter_context(ray_session())
                progress.change_pace()
                pool = _ray_pool(function, label=label, catch=catch, num_cpus=num_cpus, num_gpus=num_gpus)
                rest = _map_on_ray(pool, items[index:], label=label, catch=catch)
                for offset, result in rest:
                    progress.advance(weights[index + offset])
                    yield index + offset, result
                return
            started = time.monotonic()
            outcome = _call_here(function, item, catch)
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
        with _environment(dict.fromkeys(THREAD_VARIABLES, "1")):  # the workers of a local cluster inherit it
            ray.init(**options)
    except (ConnectionError, RuntimeError, TimeoutError) as err:
        raise ServiceError(f"Ray ({address or 'a local cluster'}) cannot be reached: {err}") from err
    started = {child for child in _children() if child not in strangers}
    with _ended_with_this_process(started) if address is None else nullcontext():
        try:
            yield
        finally:
            ray.shutdown()


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


class Progress:
    """How far, how fast, how long still: one line that is redrawn on a terminal, now and then a line elsewhere."""

    def __init__(self, label: str, *, num_items: int, total_weight: float, unit: str) -> None:
        self._label = label
        self._num_items = num_items
        self._total_weight = total_weight
        self._unit = unit
        self._on_terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._next_line_sec = 0.2 if self._on_terminal else 3.0
        self._num_done = 0
        self._done_weight = 0.0
        self._pace_from = (0.0, 0, 0.0)  # seconds, items and weight when the present pace began
        self._drawn = False

    def advance(self, weight: float) -> None:
        """One more item, of this weight, is done."""
        self._num_done += 1
        self._done_weight += weight
        elapsed_sec = time.monotonic() - self._started
        if elapsed_sec < self._next_line_sec:
            return
        self._next_line_sec = elapsed_sec + (0.2 if self._on_terminal else 10.0)
        self._drawn = True
        start, end = ("\r\x1b[K", "") if self._on_terminal else ("", "\n")
        print(start + self.line(elapsed_sec), end=end, flush=True)

    def change_pace(self) -> None:
        """From here on more workers are at it: what came before tells nothing about how long the rest will take."""
        elapsed_sec = time.monotonic() - self._started
        self._pace_from = (elapsed_sec, self._num_done, self._done_weight)
        self._next_line_sec = max(self._next_line_sec, elapsed_sec + 1.0)

    def line(self, elapsed_sec: float) -> str:
        """What is printed after `elapsed_sec`: items, rate, and the time left at the present pace."""
        from_sec, from_items, from_weight = self._pace_from
        paced_sec, paced_weight = elapsed_sec - from_sec, self._done_weight - from_weight
        rate = (self._num_done - from_items) / paced_sec if paced_sec > 0 else 0.0
        text = f"{self._label}: {self._num_done} of {self._num_items} {self._unit}, {rate:.3g}/s"
        if paced_weight <= 0:
            return text
        left_sec = round(paced_sec * (self._total_weight - self._done_weight) / paced_weight)
        return f"{text}, {left_sec // 3600}:{left_sec // 60 % 60:02d}:{left_sec % 60:02d} left"

    def close(self) -> None:
        """Leave the terminal's cursor at the start of an empty line."""
        if self._drawn and self._on_terminal:
            print("\r\x1b[K", end="", flush=True)


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


@dataclass(frozen=True)
class _Pool:
    """Workers on Ray.

    Args:
        submitters: each takes an item and gives the reference of its result; one that has is busy until that is there.
        end: ends what runs, given the references that are not there yet.
    """

    submitters: Sequence[Callable[[Any], Any]]
    end: Callable[[list[Any]], None]


def _ray_pool(
    function: Callable[[Any], Any], *, label: str, catch: Errors | None, num_cpus: float, num_gpus: float
) -> _Pool:
    import ray

    function_ref = ray.put(function)
    if num_gpus and (num_actors := int(ray.available_resources().get("GPU", 0) / num_gpus)):
        # Ray ends the process of a task that held a GPU, and the loaded model with it; an actor stays.
        kind = ray.remote(_Actor).options(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=-1, max_task_retries=1)
        actors = [kind.remote(function_ref, catch) for _ in range(num_actors)]
        return _Pool([actor.call.remote for actor in actors], partial(_kill_actors, actors))
    task = ray.remote(_call).options(num_cpus=num_cpus, max_retries=1, name=label)
    num_slots = max(1, int(ray.cluster_resources().get("CPU", 1) / num_cpus))
    # one more than runs for each slot, so that no worker waits for the driver
    return _Pool([lambda item: task.remote(function_ref, item, catch)] * 2 * num_slots, cancel_tasks)


def _kill_actors(actors: list[Any], _running: list[Any]) -> None:
    import ray

    for actor in actors:
        ray.kill(actor)


class _Actor:
    """A worker that is kept."""

    def __init__(self, function: Callable[[Any], Any], catch: Errors | None) -> None:
        self._function, self._catch = function, catch

    def call(self, item: Any) -> Any:
        """What `function` gives for one item."""
        return _call(self._function, item, self._catch)


def _map_on_ray(pool: _Pool, items: Sequence[Item], *, label: str, catch: Errors | None) -> Iterator[tuple[int, Any]]:
    import ray

    free = list(pool.submitters)
    running: dict[Any, tuple[int, Callable[[Item], Any]]] = {}
    waiting = iter(enumerate(items))
    try:
        while True:
            while free and (entry := next(waiting, None)) is not None:
                submit = free.pop()
                running[submit(entry[1])] = (entry[0], submit)
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            index, submit = running.pop(done[0])
            free.append(submit)
            yield index, _fetch(done[0], label=label, catch=catch)
    finally:
        pool.end(list(running))


def cancel_tasks(references: list[Any]) -> None:
    """End tasks; asked again until each has ended, as Ray forgets what it is asked while a task is being started."""
    import ray

    give_up_sec = time.monotonic() + CANCEL_SEC
    while references and time.monotonic() < give_up_sec:
        for reference in references:
            ray.cancel(reference, force=True)
        _, references = ray.wait(references, num_returns=len(references), timeout=0.2)


def _fetch(reference: Any, *, label: str, catch: Errors | None) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as err:
        raise err.cause from err
    except ray.exceptions.RayError as err:
        lost = KineflowError(f"{label}: a worker died twice on the same item; it crashed or ran out of memory")
        if catch is not None and isinstance(lost, catch):
            return lost
        raise lost from err


def _call(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    _set_library_threads(1)
    try:
        return function(item)
    except KineflowError as err:
        if catch is not None and isinstance(err, catch):
            return err
        raise


def _call_here(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    before = (torch.get_num_threads() if torch else None, cv2.getNumThreads() if cv2 else None)
    try:
        return _call(function, item, catch)
    finally:
        if torch and before[0]:
            torch.set_num_threads(before[0])
        if cv2 and before[1] is not None:
            cv2.setNumThreads(before[1])


def _set_library_threads(num_threads: int) -> None:
    """One process for each core does better than threads; imported libraries do not look at the environment again."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(num_threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(num_threads)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
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
