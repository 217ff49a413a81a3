"""A batch size that is found: the rule on numbers by hand, and real steps on a device whose limit is imitated."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kineflow.data.dataset import Batch
from kineflow.data.decoded_cache import DecodedCache
from kineflow.data.preprocessing import Preprocessing
from kineflow.data.views import Augment
from kineflow.models.classifier import Prediction, VideoClassifier
from kineflow.training.batch_size import (
    Steps,
    find_batch_size,
    largest_batch,
    steps_key,
    try_steps,
    within_memory,
)
from kineflow.training.finetune import Finetune
from kineflow.training.job import Job, ObjectiveConfig
from kineflow.training.objectives import Objective
from kineflow.training.self_supervision.config import SelfSupervision
from kineflow.training.steps import NUM_TIMED, step_seconds
from tests.jobs import make_job
from tests.unit.training.test_engine import model, without_norms
from tests.unit.training.test_loop import CPU, CROSS_ENTROPY, moving_left_or_right, recipe

SHRINKING = {2: 8.0, 4: 4.0, 8: 3.0, 16: 2.95, 32: 2.9}  # seconds of a clip: flat from 8 on


def device(clip_sec: dict[int, float], *, room: int = 10**6) -> tuple[Callable[[int], float | None], list[int]]:
    """A device as a table, and the sizes that it was asked for."""
    asked: list[int] = []

    def try_size(size: int) -> float | None:
        asked.append(size)
        return clip_sec[size] if size <= room else None

    return try_size, asked


@pytest.mark.parametrize(
    ("usual", "largest", "room", "chosen", "tried"),
    [
        (8, 100, 100, 8, [2, 4, 8, 16]),  # 16 are 2% faster, which is no reason to go on
        (16, 100, 100, 16, [2, 4, 8, 16]),  # alike from 8 on, and nearest to what the rate is for
        (2, 100, 100, 8, [2, 4, 8, 16, 2, 16]),  # 2 and 4 are slower, which is made sure of
        (12, 100, 100, 16, [2, 4, 8, 16]),  # 4/3 of it is nearer than 2/3
        (16, 100, 8, 8, [2, 4, 8, 16]),  # no room for 16
        (16, 9, 100, 8, [2, 4, 8]),  # an epoch is too short for 16
        (16, 1, 100, 2, [2]),  # and here for any, but batch norm needs two
        (16, 100, 1, 2, [2]),  # no room for two: training halves them
    ],
)
def test_the_fastest_size_is_taken_or_one_as_fast_that_the_rate_is_for(
    usual: int, largest: int, room: int, chosen: int, tried: list[int]
) -> None:
    try_size, asked = device(SHRINKING, room=room)
    found = find_batch_size(try_size, usual=usual, largest=largest)
    assert (found.batch_size, asked) == (chosen, tried)
    assert ("no room" in found.why) == (room < max(tried))
    assert ("fewer than 5 steps" in found.why) == (largest < 16)
    assert find_batch_size(device(SHRINKING, room=room)[0], usual=usual, largest=largest) == found


def test_a_device_that_more_clips_slow_down_gets_few() -> None:
    try_size, asked = device({2: 1.0, 4: 1.2, 8: 1.5})
    assert find_batch_size(try_size, usual=8, largest=100).batch_size == 2
    assert asked == [2, 4, 8, 8, 2]  # 8 are what the rate is for, so it is known what they cost


def test_a_machine_that_was_busy_for_a_while_does_not_change_the_training() -> None:
    seconds = iter([4.0, 2.0, 9.0, 2.0, 2.0])  # of 2, 4 and 8 clips, and of 8 and 4 again
    found = find_batch_size(lambda size: next(seconds), usual=8, largest=10)
    assert found.batch_size == 8 and "2 s in batches of 8" in found.why


def test_memory_is_foreseen_from_the_last_size() -> None:
    held = {2: 300, 4: 500, 8: 900}  # 100 before the first, and 100 for each clip
    steps, asked = device({size: 1.0 / size for size in held})

    def measured(size: int) -> Steps | None:
        return Steps(steps(size) or 0.0, 2000, 100 if size == 2 else 250, held[size])

    try_size = within_memory(measured, lambda first: 0.8 * first.free_bytes)
    assert [try_size(size) for size in (2, 4, 8, 16)] == [1 / 2, 1 / 4, 1 / 8, None]
    assert asked == [2, 4, 8]  # 100 + 16 * 100 are more than 1600: not even tried
    assert try_size(2) == 1 / 2 and asked == [2, 4, 8, 2]  # once more

    try_size = within_memory(measured, lambda first: 299)
    assert try_size(2) is None and asked[4:] == [2]  # nothing was known yet
    assert within_memory(lambda size: None, lambda first: 1600)(2) is None


def test_a_size_that_took_more_than_was_foreseen_has_no_room() -> None:
    held = {2: 300, 4: 500, 8: 2000}
    try_size = within_memory(lambda size: Steps(1.0, 2000, 100, held[size]), lambda first: 1600)
    assert [try_size(size) for size in (2, 4, 8)] == [1.0, 1.0, None]


def test_an_epoch_has_five_steps_of_what_it_draws(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=1)  # of 8 clips
    longer = replace(job, train=[*job.train] * 4)
    assert [largest_batch([longer]), largest_batch([longer, job])] == [6, 1]
    twice = replace(longer, recipe=replace(longer.recipe, accumulation=2))
    assert largest_batch([twice]) == 3
    shown = [replace(item, target=item.target * (index < 4)) for index, item in enumerate(job.train)]  # type: ignore[operator]
    few = replace(job, train=[*shown, *shown[4:] * 7], recipe=replace(job.recipe, negative_ratio=1.5))
    assert largest_batch([few]) == 2  # 4 positives and 6 negatives of the 36 clips


def test_a_step_is_tried_for_real_in_the_phase_that_trains_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clips, network, asked = moving_left_or_right(8), without_norms(), list[int]()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    forward = network.forward

    def refuse_large(clips_BCTHW: torch.Tensor, *others: object) -> object:
        asked.append(len(clips_BCTHW))
        if len(clips_BCTHW) > 4:
            raise torch.OutOfMemoryError("no room")
        return forward(clips_BCTHW, *others)

    monkeypatch.setattr(network, "forward", refuse_large)
    monkeypatch.setattr("kineflow.training.steps.LONG_SEC", math.inf)  # of a busy machine
    first = Finetune(2, "adam", 0.1, None, 1.0, 1.0, 1.0)
    given = recipe(epochs=5, optimizer="sgd", lr=0.1, batch_size=8, finetune=first)
    assert step_seconds(network, CROSS_ENTROPY, clips, given, num_clips=4, device=CPU) > 0
    assert asked == [4] * (NUM_TIMED + 1)
    trained = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert trained >= {name for name, _ in network.named_parameters() if name.startswith("backbone.")}
    with pytest.raises(torch.OutOfMemoryError):  # and is not halved here
        step_seconds(network, CROSS_ENTROPY, clips, given, num_clips=8, device=CPU)


def test_a_long_step_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    network = model()
    network.register_forward_hook(lambda *_: steps.append(1))
    monkeypatch.setattr("kineflow.training.steps.LONG_SEC", 0.0)
    clips = moving_left_or_right(4)
    assert step_seconds(network, CROSS_ENTROPY, clips, recipe(optimizer="sgd"), num_clips=4, device=CPU) > 0
    assert steps == [1]


def test_a_jobs_own_network_is_tried_with_the_share_of_one_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = VideoClassifier.forward

    def refuse_large(self: VideoClassifier, clips_BCTHW: torch.Tensor, *others: torch.Tensor) -> object:
        seen.append(len(clips_BCTHW))
        if len(clips_BCTHW) > 4:
            raise torch.OutOfMemoryError("no room")
        return forward(self, clips_BCTHW, *others)

    monkeypatch.setattr(VideoClassifier, "forward", refuse_large)
    monkeypatch.setattr("kineflow.training.steps.LONG_SEC", math.inf)  # of a busy machine
    job = make_job(tmp_path, epochs=1)
    threads = torch.get_num_threads()
    try:
        found = try_steps(job, 4)
        assert found is not None and found.clip_sec > 0 and found.peak_bytes >= found.start_bytes > 0
        assert try_steps(job, 8) is None
        assert try_steps(replace(job, workers=2), 8) is not None
        in_two_views = SelfSupervision(0.0, 0.0, 0.33, 3, 4, "", pretrain_epochs=1)
        assert try_steps(replace(job, self_supervision=in_two_views), 2) is not None
    finally:
        torch.set_num_threads(threads)
    assert set(seen[: NUM_TIMED + 1]) == {4} and seen[NUM_TIMED + 1] == 8 and set(seen[NUM_TIMED + 2 :]) == {4}


@dataclass(frozen=True)
class Greedy(ObjectiveConfig):
    """An objective that takes more memory than any machine has for more than four clips."""

    take: Callable[[], object] = list

    def make(self, job: Job, preprocessing: Preprocessing, device: torch.device, cache: DecodedCache) -> Objective:
        return _Greedy(super().make(job, preprocessing, device, cache), self.take)


class _Greedy:
    def __init__(self, objective: Objective, take: Callable[[], object]) -> None:
        self.objective, self.take, self.labels = objective, take, objective.labels

    def __call__(self, prediction: Prediction, batch: Batch, *, epoch: int) -> torch.Tensor:
        if len(batch.positions) > 4:
            self.take()
        return self.objective(prediction, batch, epoch=epoch)


@pytest.mark.parametrize(
    "take",
    [
        lambda: torch.empty(2**47),
        lambda: np.empty(2**47, np.float64),
        lambda: bytearray(2**46),
    ],
    ids=["torch", "numpy", "python"],
)
def test_a_processor_that_refuses_memory_has_no_room(tmp_path: Path, take: Callable[[], object]) -> None:
    job = replace(make_job(tmp_path, epochs=1), objective=Greedy(0.0, take=take))
    threads = torch.get_num_threads()
    try:
        assert try_steps(job, 4) is not None and try_steps(job, 8) is None
        with pytest.raises(RuntimeError, match="inconsistent"):  # which is another matter
            try_steps(replace(job, objective=Greedy(0.0, take=lambda: torch.ones(2) @ torch.ones(3))), 8)
    finally:
        torch.set_num_threads(threads)


def test_folds_seeds_and_rates_share_their_steps(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=3)
    recipe = replace(job.recipe, seed=9, lr=1.0, epochs=7, batch_size=16, accumulation=2)
    assert steps_key(replace(job, fold=1, train=job.train[1:], recipe=recipe)) == steps_key(job)
    changes = (
        job,
        replace(job, recipe=replace(job.recipe, optimizer="adam")),
        replace(job, recipe=replace(job.recipe, precision="bf16")),
        replace(job, recipe=replace(job.recipe, threads=2)),
        replace(job, recipe=replace(job.recipe, batch_norm="frozen")),
        replace(job, model=replace(job.model, options={"hidden_dim": 32, "num_layers": 1})),
        replace(job, preprocessing=replace(job.preprocessing, num_frames=10)),
        replace(job, preprocessing=replace(job.preprocessing, short_clips="pad")),
        replace(job, augment=Augment(mixup=0.2)),
        replace(job, objective=ObjectiveConfig(0.0, focal_gamma=2.0)),
        replace(job, workers=2),
    )
    assert len(set(map(steps_key, changes))) == len(changes)
