"""The key of a job: everything that its weights depend on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from kineflow.distillation.mars import MarsConfig
from kineflow.training.job import ObjectiveConfig
from tests.jobs import make_job
from tests.unit.training.test_finetune import TWO_PHASES


@dataclass(frozen=True)
class OtherCode(ObjectiveConfig):
    code: ClassVar[tuple[str, ...]] = ("kineflow.distillation",)


def test_the_key_knows_the_workers_and_the_code_of_the_objective(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=1)
    same = replace(job, name="called otherwise")
    others = [replace(job, workers=2), replace(job, objective=OtherCode(0.0)), replace(job, fold=1)]
    assert same.key == job.key
    assert len({job.key, *(other.key for other in others)}) == 4
    assert MarsConfig.code == OtherCode.code


def test_the_key_knows_the_content_of_the_weights_and_not_where_they_are(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=1)

    def key(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return replace(job, model=replace(job.model, weights=str(tmp_path / name))).key

    assert key("a.pt", b"one") == key("b.pt", b"one")
    assert len({job.key, key("a.pt", b"one"), key("a.pt", b"two")}) == 3


def test_the_key_knows_what_trains_when(tmp_path: Path) -> None:
    job = make_job(tmp_path, epochs=2)
    tuned = replace(job, recipe=replace(job.recipe, finetune=TWO_PHASES))
    slower = replace(job, recipe=replace(job.recipe, finetune=replace(TWO_PHASES, lr_decay_per_block=0.9)))
    assert len({job.key, tuned.key, slower.key}) == 3
