"""The deployments of prefect.yaml on a real local server, and a run of one of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.serve import read_deployments
from kineflow.errors import ParamsError
from tests.flows.conftest import REPOSITORY


def test_the_nightly_deployment_is_served_and_runs(flow_toy: Path) -> None:
    shutil.copyfile(REPOSITORY / "prefect.yaml", flow_toy / "prefect.yaml")
    log = flow_toy / "serve.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "flows.serve"]
        serving = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _until(lambda: "Your deployments are being served" in log.read_text(), serving, log)
        address = next(line for line in log.read_text().splitlines() if line.startswith("serving at ")).split()[2]
        api = address.rstrip(";") + "/api"
        found = {d["name"]: d for d in _post(f"{api}/deployments/filter", {})}
        assert set(found) == {"nightly", "on-demand", "weekly"}
        assert [schedule["active"] for schedule in found["weekly"]["schedules"]] == [False]
        nightly = found["nightly"]
        assert [s["schedule"]["cron"] for s in nightly["schedules"]] == ["0 3 * * *"]
        assert [s["active"] for s in nightly["schedules"]] == [True]
        parameters = {"push_results": False}
        run = _post(f"{api}/deployments/{nightly['id']}/create_flow_run", {"parameters": parameters})
        state = _until(lambda: _terminal_state(api, run["id"]), serving, log)
        assert state["type"] == "COMPLETED", (state, log.read_text())
        assert (flow_toy / "models/flow/weights").read_text() == "good\n"
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        try:
            serving.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(serving.pid, signal.SIGKILL)
            serving.wait()


def test_every_entrypoint_is_a_flow_and_its_parameters_are_known() -> None:
    import importlib
    import inspect

    deployments = read_deployments(REPOSITORY / "prefect.yaml")
    for values in deployments:
        path, name = values["entrypoint"].split(":")
        flow: Any = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert set(values["parameters"]) <= set(inspect.signature(flow.fn).parameters)
    schedules = {d["entrypoint"]: [s["cron"] for s in d["schedules"]] for d in deployments}
    assert schedules["flows/retrain.py:retrain"] == ["0 3 * * *"]


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="is not there"):
        read_deployments(tmp_path / "prefect.yaml")
    (tmp_path / "prefect.yaml").write_text("name: x\n")
    with pytest.raises(ParamsError, match="names no deployments"):
        read_deployments(tmp_path / "prefect.yaml")


def _until(ready: Callable[[], Any], serving: "subprocess.Popen[bytes]", log: Path, *, timeout_sec: float = 180) -> Any:
    deadline = time.monotonic() + timeout_sec
    while not (found := ready()):
        assert serving.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return found


def _terminal_state(api: str, run_id: str) -> dict[str, Any] | None:
    with urllib.request.urlopen(f"{api}/flow_runs/{run_id}", timeout=30) as answer:
        state: dict[str, Any] = json.load(answer)["state"]
    return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def _post(url: str, values: dict[str, Any]) -> Any:
    body, headers = json.dumps(values).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=30) as answer:
        return json.load(answer)
