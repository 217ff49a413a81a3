"""What models cost: counted as they are described, and timed in turns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from kineflow.experiments import cost
from kineflow.experiments.cost import Cost, Untimed, network_cost, timed
from tests.jobs import make_job

COST = Cost(10, 20, None, float("nan"), "cpu", 1, "fp32")


class Clock:
    """Goes on by what models take, and by nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sec = 0.0
        self.said: list[str] = []
        monkeypatch.setattr(cost.time, "thread_time", lambda: self.sec)
        monkeypatch.setattr(cost.time, "monotonic", lambda: self.sec)

    def model(self, name: str, *seconds: float) -> Untimed:
        """One that takes so long, over and over; it takes a minute to set up, which nobody asks for."""
        left = [*seconds]

        @contextmanager
        def settings() -> Iterator[None]:
            self.said.append(f"{name}(")
            self.sec += 60.0
            yield
            self.said.append(")")

        def judge() -> None:
            self.said.append(name)
            left.append(left.pop(0))
            self.sec += left[-1]

        return Untimed(COST, judge, settings)


def test_models_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first = clock.model("a", *[9.0, 9.0, *[0.5, 0.001] * 3, *[0.5, 0.003] * 4])  # every second one is timed
    found = timed([first, clock.model("b", 0.25)])
    assert [one.ms_per_clip for one in found] == pytest.approx([3.0, 250.0])
    assert "".join(clock.said) == "a(aa)b(bb)" * (1 + cost.MIN_ROUNDS)  # slow ones: no more than must be


def test_quick_models_are_timed_until_a_median_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock_of = clock.model("a", 0.001)
    timed([Untimed(COST, clock_of.judge, torch.inference_mode)])
    assert clock.said.count("a") == 2 * (1 + cost.MAX_ROUNDS)  # 0.2 s
    clock.said.clear()
    slower = clock.model("b", 0.1)
    timed([Untimed(COST, slower.judge, torch.inference_mode)])
    assert clock.said.count("b") == pytest.approx(2 * 5.0 / 0.2, abs=2)  # as many as the budget holds


def test_waiting_for_others_is_no_cost_of_a_model() -> None:
    (found,) = timed([Untimed(COST, lambda: time.sleep(0.02), torch.inference_mode)])
    assert found.ms_per_clip < 10.0


def test_a_network_is_counted_and_timed_as_it_is_trained(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=1)
    threads = torch.get_num_threads()
    untimed = network_cost(job)
    (found,) = timed([untimed])
    assert found.num_params == sum(p.numel() for p in job.model.build(seed=0).parameters())
    assert found.macs > 0 and found.ms_per_clip > 0 and found.input_CTHW == job.input_CTHW
    assert (found.threads, found.precision) == (job.recipe.threads, job.recipe.precision)
    with untimed.settings():
        assert torch.get_num_threads() == job.recipe.threads and torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads and not torch.is_inference_mode_enabled()
