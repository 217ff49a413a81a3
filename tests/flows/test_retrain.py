"""`python -m flows.retrain` on a toy graph: real DVC, real Prefect, real signals."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.flows.conftest import processes_in
from tests.s3_server import KEY, SECRET, free_port, serve_bucket

COMMAND = [sys.executable, "-m", "flows.retrain"]


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process group of its own, its output readable line by line."""
    flow = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield flow
    finally:
        if flow.poll() is None:
            os.killpg(flow.pid, signal.SIGKILL)
        flow.communicate()


def read_until(flow: "subprocess.Popen[str]", text: str) -> list[str]:
    assert flow.stdout is not None
    lines: list[str] = []
    for line in flow.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came:\n{''.join(lines)}")


def await_silence(root: Path, *, timeout_sec: float = 20.0) -> None:
    """Until nothing but the embedded S3 works in the workspace."""
    deadline = time.monotonic() + timeout_sec
    while left := [line for line in processes_in(root) if "rclone" not in line]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_killed_in_the_middle_it_leaves_no_orphan_and_goes_on(flow_toy: Path) -> None:
    (flow_toy / "hold").touch()
    with started() as flow:
        read_until(flow, "waiting")  # streamed: the stage cannot end before `go` is there
        os.killpg(flow.pid, signal.SIGKILL)
    await_silence(flow_toy)
    assert not (flow_toy / "models").exists()
    assert "gate" in yaml.safe_load((flow_toy / "dvc.lock").read_text())["stages"]

    (flow_toy / "go").touch()
    again = subprocess.run(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert again.returncode == 0, again.stdout
    assert (flow_toy / "models/flow/weights").read_text() == "good\n"
    assert "'gate' - unchanged" in again.stdout
    assert "done with train@flow" in again.stdout
    assert list((flow_toy / ".kineflow/s3/kineflow/dvc/runs").rglob("*")), "the run cache was not pushed"
    await_silence(flow_toy)

    with closing(sqlite3.connect(flow_toy / ".kineflow/prefect/prefect.db")) as history:
        ends = [end for (end,) in history.execute("select state_type from flow_run order by start_time")]
    assert ends == ["CRASHED", "COMPLETED"]

    third = subprocess.run([*COMMAND, "--no-push"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert third.returncode == 0, third.stdout
    for stage in ("gate", "train@rgb", "train@flow"):
        assert f"'{stage}' - unchanged" in third.stdout
    assert "files pushed" not in third.stdout


def test_pulling_builds_only_what_nobody_built(flow_toy: Path) -> None:
    pushed = subprocess.run(COMMAND, capture_output=True, text=True)
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    for path in (flow_toy / ".dvc/cache", flow_toy / ".dvc/tmp", flow_toy / "models", flow_toy / "reports"):
        shutil.rmtree(path)
    for path in (flow_toy / "gate.json", flow_toy / "a.txt", flow_toy / "dvc.lock"):
        path.unlink()
    pulled = subprocess.run([*COMMAND, "--pull", "--no-push"], capture_output=True, text=True)
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    assert (flow_toy / "models/flow/weights").read_text() == "good\n"
    assert "done with" not in pulled.stdout + pulled.stderr


def test_told_to_end_it_ends_the_stage(flow_toy: Path) -> None:
    (flow_toy / "hold").touch()
    with started("--no-push") as flow:
        read_until(flow, "waiting")
        flow.send_signal(signal.SIGTERM)
        flow.communicate(timeout=30)
        assert flow.returncode != 0
    await_silence(flow_toy)
    assert not (flow_toy / ".kineflow/retrain.pid").exists()


def test_a_closed_gate_is_exit_3_and_its_own_sentence_last(flow_toy: Path) -> None:
    (flow_toy / "source.txt").write_text("bad\n")
    run = subprocess.run([*COMMAND, "--no-push"], capture_output=True, text=True)
    assert run.returncode == 3, run.stdout + run.stderr
    assert run.stderr.splitlines()[-1] == "retrain: error: gate: clip.mp4 has no frames; remove it"
    assert "Traceback" not in run.stdout + run.stderr
    assert not (flow_toy / "models").exists()


def test_s3_out_of_reach_is_exit_4_after_the_build(flow_toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anna")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("KINEFLOW_PATIENCE_SEC", "1")
    run = subprocess.run(COMMAND, capture_output=True, text=True)
    assert run.returncode == 4, run.stdout + run.stderr
    last = run.stderr.splitlines()[-1]
    assert last.startswith("retrain: error: the remote s3://kineflow/dvc at http://127.0.0.1:9 is out of reach")
    assert "Traceback" not in run.stdout + run.stderr
    assert "hidden" not in run.stdout + run.stderr
    assert (flow_toy / "models/flow/weights").read_text() == "good\n"  # nothing is lost


def test_wrong_params_are_exit_2(flow_toy: Path) -> None:
    params = flow_toy / "params.yaml"
    params.write_text(params.read_text() + "nonsense: 1\n")
    run = subprocess.run([*COMMAND, "--no-push"], capture_output=True, text=True)
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stderr.splitlines()[-1] == "retrain: error: params.yaml: nonsense: unknown key"


def test_a_push_waits_for_a_remote_that_is_away_and_goes_on(
    flow_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("KINEFLOW_REMOTE", "s3://bucket/dvc")
    with started() as flow:
        read_until(flow, "is out of reach, so nothing was pushed; what was built is kept")
        with serve_bucket(tmp_path / "s3", port=port):
            said, _ = flow.communicate(timeout=120)
            assert flow.returncode == 0, said
    assert list((tmp_path / "s3/bucket/dvc/runs").rglob("*")) and list((tmp_path / "s3/bucket/dvc/files").rglob("*"))
