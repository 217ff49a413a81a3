"""Challenger against champion: by the rule in params.yaml, and with the reason recorded.

.venv/bin/python -m flows.promote
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger

from flows.command import failed, run_as_command
from kineflow.errors import KineflowError
from kineflow.params import Params, load_params
from kineflow.stages import paths

if TYPE_CHECKING:
    from prefect.states import State

    from kineflow.registry.promote import Outcome


def compare_and_promote(params: Params) -> "Outcome":
    """Decide about the challenger of this workspace's model, on the test clips of today or the same folds.

    Raises:
        ParamsError: there is no challenger.
        ServiceError: the registry is out of reach.
    """
    from kineflow.evaluation.metrics import LOWER_IS_BETTER
    from kineflow.registry.compare import read_test_data
    from kineflow.registry.decide import Rule
    from kineflow.registry.promote import promote_challenger

    rule = Rule(
        metric=params.promotion.metric,
        min_gain=params.promotion.min_gain,
        min_clips=params.promotion.min_clips,
        beat_baselines=params.promotion.beat_baselines,
        lower_is_better=params.promotion.metric in LOWER_IS_BETTER,
    )
    data = None
    if params.splits.test != "none":
        data = read_test_data(
            params.task,
            videos=paths.VIDEOS,
            clips=paths.CLIPS,
            folds=paths.FOLDS,
            frame_labels=paths.FRAME_LABELS,
            labels=params.labels,
            only_supported=params.clips.without_support == "leave_out",
            frames=paths.FRAMES,
            frames_per_sec=params.frames.fps,
        )
    name = params.register_.model_name
    return promote_challenger(name, rule, data=data, release_stream=params.release.stream)


@flow(name="promote", persist_result=False)  # type: ignore[untyped-decorator]
def promote() -> "Outcome | State":
    """Move the alias `champion` to the challenger if the rule says so."""
    try:
        outcome = compare_and_promote(load_params(Path("params.yaml")))
    except KineflowError as err:
        return failed(err)
    decision = outcome.decision
    verb = "promoted" if decision.promote else "not promoted"
    get_run_logger().info("%s version %s %s: %s", outcome.name, outcome.challenger, verb, decision.reason)
    return outcome


def main() -> int:
    """Run the flow once and return its exit code."""
    return run_as_command("promote", lambda: promote(return_state=True))


if __name__ == "__main__":
    sys.exit(main())
