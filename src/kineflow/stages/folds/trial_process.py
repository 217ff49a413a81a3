"""Steps of training in another process: its memory is gone afterwards, and where it ends, this one goes on."""

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from kineflow.errors import KineflowError
from kineflow.stages import stage
from kineflow.training.batch_size import Steps, try_steps
from kineflow.training.job import Job


class TrialProcess:
    """Tries steps of `job` in a process that ends with this one, however that ends; a new one, if the last is gone."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._running: tuple[SpawnProcess, Connection] | None = None

    def try_steps(self, batch_size: int) -> Steps | None:
        """Some steps in batches of so many clips; None where there is no room for them.

        Raises:
            KineflowError: what the steps raised; or their process crashed, and not for lack of memory.
        """
        process, pipe = self._running = self._running or self._start()
        try:
            pipe.send(batch_size)
            answer: Steps | KineflowError | None = pipe.recv()
        except (EOFError, ConnectionError) as err:
            process.join()
            code = process.exitcode or 0
            self.close()
            if code == -signal.SIGKILL:  # as a system that is short of memory does
                return None
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            text = f"{self._job.name}: trying batches of {batch_size} for train.batch_size: auto crashed ({how})"
            raise KineflowError(f"{text}; see what it said above, or write a number there") from err
        if isinstance(answer, KineflowError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process at once."""
        if self._running is not None:
            process, pipe = self._running
            process.kill()
            process.join()
            pipe.close()
            self._running = None

    def _start(self) -> tuple[SpawnProcess, Connection]:
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._job, theirs, os.getpid()))
        process.start()
        theirs.close()  # so that its end is noticed
        return process, pipe


def _serve(job: Job, pipe: Connection, parent: int) -> None:
    """Answer the other end while it is there; an error that is no `KineflowError` ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage ends this one
    stage.die_with_parent()
    while os.getppid() == parent:  # it may have ended while this one was starting
        batch_size: int = pipe.recv()
        try:
            answer: Steps | KineflowError | None = try_steps(job, batch_size)
        except KineflowError as err:
            answer = err
        pipe.send(answer)
