"""What the worker of a trial leaves; trials themselves are tested on a real workspace."""

from dataclasses import replace
from pathlib import Path

from kineflow.experiments.trial_worker import Work, run_fold
from kineflow.training.self_supervision.config import SelfSupervision
from tests.jobs import make_job
from tests.unit.experiments.samples import trial


def test_a_fold_leaves_nothing_but_its_result(tmp_path: Path) -> None:
    first = SelfSupervision(0.0, 0.0, patch_fraction=0.5, num_past=1, gap=1, branch_after="", pretrain_epochs=1)
    job = replace(make_job(tmp_path, epochs=1), self_supervision=first)
    done = trial([0.5]).folds[0]
    work = Work(lambda changes: [job], lambda job, folder: done, tmp_path / "home", tmp_path, 1, 1, 0.0, 0, 0)
    news = tmp_path / "home" / "progress" / "trial.json"
    assert run_fold(job, work, news) is done
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == [] and list(news.parent.iterdir()) == []
