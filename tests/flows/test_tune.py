"""`python -m flows.tune` in a real workspace, and its deployment, off until it is switched on."""

import sys
from pathlib import Path

import yaml

from flows.serve import _cron, read_deployments
from tests.conftest import Built
from tests.flows.conftest import REPOSITORY
from tests.graph import copy_workspace, run_command


def test_the_flow_brings_the_data_up_to_date_and_searches(built: Built, tmp_path: Path) -> None:
    root = copy_workspace(built.root, tmp_path / "workspace")
    space = yaml.safe_load((root / "params.yaml").read_text())["search"]
    space |= {"algorithm": "grid", "num_trials": None, "space": {"streams.rgb.lr": {"grid": [0.002, 0.004]}}}
    (root / "two.yaml").write_text(yaml.safe_dump({"search": space}))
    done = run_command(sys.executable, "-m", "flows.tune", "--space", "two.yaml", "--apply", cwd=root)
    wrong = run_command(sys.executable, "-m", "flows.tune", "--space", "none", cwd=root, check=False)
    assert "'validate_dataset'" in done.stderr and "train@rgb" not in done.stderr
    best = yaml.safe_load((root / "reports/search/two/best.yaml").read_text())["streams.rgb.lr"]
    assert yaml.safe_load((root / "params.yaml").read_text())["streams"]["rgb"]["lr"] == best
    assert wrong.returncode == 2 and "tune: error: there is no space 'none'; known: " in wrong.stderr


def test_the_deployment_is_off_until_it_is_switched_on() -> None:
    found = {values["name"]: values for values in read_deployments(REPOSITORY / "prefect.yaml")}
    assert found["weekly"]["entrypoint"] == "flows/tune.py:tune"
    assert [_cron(schedule).active for schedule in found["weekly"]["schedules"]] == [False]
    assert [_cron(schedule).active for schedule in found["nightly"]["schedules"]] == [True]
