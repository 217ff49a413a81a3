import signal
import subprocess
import sys

import psutil
import pytest

from kineflow.errors import ParamsError
from kineflow.parallel.session import ray_session

WAIT_SEC = 60.0


def ray_children(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "ray" in " ".join(child.cmdline()).lower()]


def test_a_session_ends_no_process_that_it_did_not_start() -> None:
    program = "from kineflow.parallel.session import ray_session\nimport subprocess, sys, time\n"
    program += "own = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
    program += "with ray_session(): pass\ntime.sleep(1)\nprint(own.poll())\nown.communicate(b'.')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "None", done.stdout + done.stderr


def test_ray_client_is_refused_with_the_way_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    told = r"ray://head:10001 .*ray start --address=HEAD:6379 --num-cpus=0"
    with pytest.raises(ParamsError, match=told), ray_session():
        pass


SLEEPING_DRIVER = """
import time
from kineflow.parallel.session import ray_session
from kineflow.parallel.tasks import map_tasks
def sleep(item):
    time.sleep(0.1 if item < 2 else 300)
with ray_session():
    for index, _ in map_tasks(sleep, list(range(6)), label="sleep"):
        print(index, flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_driver_leaves_no_process(ending: signal.Signals) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", SLEEPING_DRIVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() in {"0", "1"}
    children = ray_children(psutil.Process(driver.pid))
    assert children
    driver.send_signal(ending)
    driver.wait(timeout=WAIT_SEC)
    driver.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=WAIT_SEC)
    assert alive == []
