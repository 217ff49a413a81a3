"""The key of a job: everything that its weights depend on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from kineflow.distillation.mars import MarsConfig
from kineflow.training.job import ObjectiveConfig
from tests.jobs import make_job


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
