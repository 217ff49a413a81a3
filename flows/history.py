"""Prefect's history of runs, kept true where a run could not do it itself."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed


def write_end_of_killed(flow_run: str) -> None:
    """Let the history say `Crashed` of a run that was killed, where it still says `Running`.

    Args:
        flow_run: its id; nothing happens if the API at hand knows no such run, or knows its end.
    """
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run))
        except (ObjectNotFound, ValueError):
            return
        if run.state is None or not run.state.is_final():
            client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
