"""One stage under real DVC: its lines, its end, its remains."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from flows import child
from flows.dvc_graph import changed_stages, read_graph
from flows.dvc_stage import run_dvc_stage
from flows.workspace import claimed
from kineflow.errors import DataError, KineflowError, ServiceError
from kineflow.services import process
from tests.flows.conftest import processes_in

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's use of pygtrie


def quiet(line: str) -> None:
    pass


def build(*stages: str) -> None:
    """What is not under test: as a user would, in one call."""
    subprocess.run([child.dvc(), "repro", "-q", *stages], check=True)


def test_the_graph_is_in_order(toy: Path) -> None:
    graph = read_graph(toy)
    assert graph.order == ("sync", "gate", "train@rgb", "train@flow")
    assert graph.always == {"sync"}
    assert graph.depends_on["train@flow"] == {"gate"}
    assert graph.with_descendants(frozenset({"gate"})) == {"gate", "train@rgb", "train@flow"}
    assert set(changed_stages(toy)) == {"sync", "gate", "train@rgb", "train@flow"}


def test_lines_appear_while_the_stage_runs(toy: Path) -> None:
    build("gate")
    (toy / "hold").touch()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line == "waiting":  # had the line come late, the stage would wait for ever
            (toy / "go").touch()

    run = run_dvc_stage("train@rgb", say=say)
    assert (run.stage, run.did) == ("train@rgb", "ran")
    assert lines.index("waiting") < lines.index("done with train@rgb")
    assert not [line for line in lines if "git add" in line or "dvc push" in line]
    assert run_dvc_stage("train@rgb", say=quiet).did == "unchanged"
    assert run_dvc_stage("train@rgb", say=quiet, force=True).did == "ran"
    assert changed_stages(toy).keys() == {"sync", "train@flow"}


def test_a_result_in_the_run_cache_is_restored(toy: Path) -> None:
    build("gate")
    (toy / "source.txt").write_text("other\n")
    build("gate")
    (toy / "source.txt").write_text("good\n")
    build("sync")
    assert run_dvc_stage("gate", say=quiet).did == "restored"
    assert (toy / "gate.json").read_text() == "good\n"


def test_the_stages_own_sentence_and_exit_code(toy: Path) -> None:
    (toy / "source.txt").write_text("bad\n")
    build("sync")
    with pytest.raises(DataError) as caught:
        run_dvc_stage("gate", say=quiet)
    assert str(caught.value) == "gate: clip.mp4 has no frames; remove it"
    assert caught.value.exit_code == 3


def test_a_stale_report_is_not_believed(toy: Path) -> None:
    (toy / "source.txt").write_text("bad\n")
    build("sync")
    with pytest.raises(DataError):
        run_dvc_stage("gate", say=quiet)
    (toy / "stage.py").write_text("raise SystemExit(1)")  # dies before it can write a report
    with pytest.raises(KineflowError, match=r"gate: .*exited with 1") as caught:
        run_dvc_stage("gate", say=quiet)
    assert caught.value.exit_code == 1


def test_a_stage_that_is_not_there(toy: Path) -> None:
    with pytest.raises(KineflowError, match="'nothing'"):
        run_dvc_stage("nothing", say=quiet)


def test_whatever_is_raised_ends_the_stage_and_all_below_it(toy: Path) -> None:
    build("gate")
    (toy / "dvc.yaml").write_text(
        (toy / "dvc.yaml").read_text().replace("python -S stage.py train", "echo go; sleep 987 & (sleep 986); echo")
    )

    def say(line: str) -> None:
        if line == "go":
            deadline = time.monotonic() + 5
            while len([line for line in processes_in(toy) if line.startswith("sleep")]) < 2:
                assert time.monotonic() < deadline
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dvc_stage("train@rgb", say=say)
    assert processes_in(toy) == []


def test_a_lock_held_when_the_stage_ends_is_recovered_from(toy: Path) -> None:
    """DVC exits 255 after the command succeeded, and forgets it."""
    build("gate")
    (toy / "hold").touch()
    holder = "import sys; from zc.lockfile import LockFile; lock = LockFile('.dvc/tmp/lock'); "
    holder += "print('held', flush=True); sys.stdin.read()"
    held: list[subprocess.Popen[str]] = []
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line == "waiting":
            other = subprocess.Popen(
                [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            held.append(other)
            (toy / "go").touch()
        if "committing it" in line:
            held[0].communicate("")

    run_dvc_stage("train@rgb", say=say)
    assert any("committing it" in line for line in lines)
    assert "train@rgb" in yaml.safe_load((toy / "dvc.lock").read_text())["stages"]
    assert "train@rgb" not in changed_stages(toy)


def test_a_killed_supervisor_is_found_by_the_next_run(toy: Path) -> None:
    """kill -9 on flow and supervisor at once leaves the stage; the pid file leads to it."""
    (toy / "sleeper.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(985)\n")
    program = "from flows import child; from flows.workspace import claimed\n"
    program += "with claimed(wait=False, say=print) as claim:\n"
    program += (
        f"    child.run([{sys.executable!r}, 'sleeper.py'], say=lambda line: print(line, flush=True), claim=claim)"
    )
    flow = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    assert flow.stdout.readline() == "up\n"
    with pytest.raises(ServiceError, match=f"pid {flow.pid}"), claimed(wait=False, say=quiet):
        pass
    supervisor = int((toy / ".kineflow/retrain.pid").read_text().split('"children": [[')[1].split(",")[0])
    os.kill(flow.pid, signal.SIGSTOP)  # so that the order of deaths does not matter
    os.kill(supervisor, signal.SIGKILL)
    os.kill(flow.pid, signal.SIGKILL)
    flow.communicate()
    deadline = time.monotonic() + 5
    while process.start_time(supervisor) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(processes_in(toy)) == 1  # the sleeper
    said: list[str] = []
    with claimed(wait=False, say=said.append):
        assert processes_in(toy) == []
    assert said == [f"ended process group {supervisor}, which a killed run had left behind"]
    assert not (toy / ".kineflow/retrain.pid").exists()


def test_a_second_run_waits_if_told_to(toy: Path) -> None:
    said: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with claimed(wait=True, say=said.append):
            entered.set()

    with claimed(wait=False, say=quiet):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(5)
    thread.join()
    assert len(said) == 1
    assert said[0].startswith("waiting for the run")


def test_commands_find_the_programs_of_this_environment(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    code, lines = child.run(["sh", "-c", "command -v kineflow; exit 7"], say=quiet)
    assert code == 7
    assert lines == [str(Path(sys.executable).with_name("kineflow"))]
    assert process.find("s3") is None
