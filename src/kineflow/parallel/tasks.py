"""Run a function over many items on every core.

Starting Ray costs some five seconds and stopping it one, so short work never starts it: `map_tasks` works in the
calling process until what is left is long enough for the other cores to make up for the start.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar, overload

from kineflow.errors import KineflowError
from kineflow.parallel.session import RAY_START_SEC, ray_is_on, ray_session
from kineflow.parallel.slots import Errors, Slot, TaskSlot, call, cancel_tasks, make_slots
from kineflow.parallel.threads import num_cores, set_library_threads
from kineflow.progress.bar import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")
Caught = TypeVar("Caught", bound=KineflowError)

MIN_PARALLEL_ITEMS = 3


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
    shown: bool = ...,
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
    shown: bool = ...,
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
    shown: bool = True,
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
        shown: print how far it is; not where somebody else shows more than that.

    Raises:
        KineflowError: a worker died twice on the same item.
        Exception: whatever `function` raised.
    """
    weights = list(weights) if weights is not None else [1.0] * len(items)
    if len(weights) != len(items):
        raise ValueError(f"{len(weights)} weights for {len(items)} items")
    progress = Progress(label, num_items=len(items), total_weight=sum(weights), unit=unit, shown=shown)
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
                slots = make_slots(function, label=label, catch=catch, num_cpus=num_cpus, num_gpus=num_gpus)
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


def num_workers(*, num_cpus: float = 1.0, num_gpus: float = 0.0) -> int:
    """Tasks of `map_tasks` that run at a time on this machine."""
    if num_gpus:
        import torch

        if num_devices := torch.cuda.device_count():
            return max(1, int(num_devices / num_gpus))
    return max(1, int(num_cores() / num_cpus))


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
        cancel_tasks([reference for reference, (slot, _) in running.items() if isinstance(slot, TaskSlot)])


def _pays(weights: Sequence[float], index: int, spent_sec: float, num_slots: int) -> bool:
    """Whether the items from `index` on are worth being done on Ray, judged by those done here so far."""
    if len(weights) - index < MIN_PARALLEL_ITEMS:
        return False
    if "RAY_ADDRESS" in os.environ or ray_is_on():
        return True
    done_weight = sum(weights[:index])
    if num_slots == 1 or done_weight <= 0:
        return False
    left_sec = spent_sec * sum(weights[index:]) / done_weight
    return left_sec * (1 - 1 / num_slots) > RAY_START_SEC


def _call_here(function: Callable[[Item], Any], item: Item, catch: Errors | None) -> Any:
    """As a worker does it; afterwards this process has its threads again, also in libraries that the item imported."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # of nested regions the outermost
    usual = int(wanted) if wanted.isdecimal() and int(wanted) else num_cores()
    before = (torch.get_num_threads() if torch else usual, cv2.getNumThreads() if cv2 else num_cores())
    try:
        return call(function, item, catch)
    finally:
        set_library_threads(*before)
